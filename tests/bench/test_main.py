"""The bench's own command line: which tool runs, with what, and how it ends."""

from pathlib import Path

import pytest

import lib_finetune.__main__ as package
from bench import __main__ as bench
from bench.nano import checkpoint
from lib_finetune.errors import HostError, InputError, Problem


@pytest.fixture
def page(monkeypatch):
    """Stands for the page without the WebUI; holds what it is served with."""
    served = []

    def serve(options):
        served.append(options)
        return 0

    monkeypatch.setattr(package, "page", serve)
    return served


def test_the_tab_has_the_small_checkpoint(page, tmp_path):
    assert bench.main(["ui", "--output-root", str(tmp_path)]) == 0
    assert [(options.checkpoint, options.output_root) for options in page] == [(checkpoint.FILE, tmp_path)]


def test_the_tab_has_what_the_packages_own_command_has(page):
    assert bench.main(["ui", "--checkpoint", "a.ckpt", "--port", "7", "--prediction", "v_prediction"]) == 0
    assert [(options.checkpoint, options.port, options.prediction) for options in page] == [(Path("a.ckpt"), 7, "v_prediction")]


def test_a_shortened_flag_of_the_tab_is_refused(page, capsys):
    """quickstart.py makes paths absolute by their flag: one that it does not know would be looked for in the project's folder."""
    with pytest.raises(SystemExit) as stopped:
        bench.main(["ui", "--check", "a.ckpt"])
    assert stopped.value.code == 2 and page == []
    assert "--check" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"), [(InputError([Problem("--file", "it is gone.")]), 2), (HostError("it is gone."), 1), (KeyboardInterrupt(), 1)]
)
def test_a_failure_is_one_message_and_an_exit_code(monkeypatch, capsys, error, code):
    def tool(_arguments):
        raise error

    monkeypatch.setitem(bench.TOOLS, "speed", (tool, ""))
    assert bench.main(["speed"]) == code
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1
    assert ("it is gone." in message) != isinstance(error, KeyboardInterrupt)


def test_help_names_every_tool_and_driver(capsys):
    with pytest.raises(SystemExit):
        bench.main(["--help"])
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in bench.TOOLS)
    assert "bench.webui.driver" in text


def test_help_after_a_tool_is_the_tools_own(capsys):
    with pytest.raises(SystemExit):
        bench.main(["nano", "measure", "--help"])
    assert "--class-pictures" in capsys.readouterr().out


def test_nano_is_trained_by_its_own_command_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        bench.main(["nano", "train", "no-such-stage", "--state", "nowhere"])
    assert stopped.value.code == 2
    assert "unknown stage no-such-stage" in capsys.readouterr().err
