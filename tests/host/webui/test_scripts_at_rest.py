"""Pictures of ours beside other extensions: their scripts are at rest, what they change is theirs, and our weights are not."""

from __future__ import annotations

import logging
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from stub_webui import StubWebui

from lib_finetune.errors import HostError, WeightsChangedError
from lib_finetune.host.webui import scripts_at_rest
from lib_finetune.host.webui.host import WebuiHost
from lib_finetune.ports.pictures import PictureRequest

TO_Q = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"


@pytest.fixture
def webui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StubWebui:
    return StubWebui(tmp_path, monkeypatch)


@pytest.fixture
def host(webui: StubWebui) -> WebuiHost:
    return WebuiHost()


def control(value: Any, label: str = "") -> Any:
    return types.SimpleNamespace(value=value, label=label)


def extension(webui: StubWebui, name: str) -> str:
    return str(webui.root / "extensions" / name / "scripts" / "script.py")


def test_every_control_has_its_default_and_no_script_is_chosen(host: WebuiHost, webui: StubWebui) -> None:
    seen: list[tuple[Any, ...]] = []
    for name, values in (("one", [False, 0.5]), ("two", ["None", None, 7])):
        webui.scripts.scripts_txt2img.add(extension(webui, name), [control(value) for value in values], lambda p, *args: seen.append(args))
    host.picture(PictureRequest("a cat"))
    p = webui.made[0]
    assert p.is_api and p.scripts is webui.scripts.scripts_txt2img and p.script_args == (0, False, 0.5, "None", None, 7)
    assert seen == [(False, 0.5), ("None", None, 7)]


def test_without_scripts_a_picture_is_made_all_the_same(host: WebuiHost, webui: StubWebui) -> None:
    webui.scripts.scripts_txt2img = None
    host.picture(PictureRequest("a cat"))
    assert not hasattr(webui.made[0], "script_args")


def test_an_extension_that_is_on_by_default_is_named_in_the_log(
    host: WebuiHost, webui: StubWebui, caplog: pytest.LogCaptureFixture
) -> None:
    webui.scripts.scripts_txt2img.add(extension(webui, "always-there"), [control(True, "Enabled")])
    webui.scripts.scripts_txt2img.add(extension(webui, "at-rest"), [control(False, "Enabled")])
    with caplog.at_level(logging.INFO):
        host.picture(PictureRequest("a cat"))
    assert "always-there" in caplog.text and "at-rest" not in caplog.text


def test_what_an_extension_left_on_modules_is_put_in_order_and_is_its_own_affair(host: WebuiHost, webui: StubWebui) -> None:
    """As incantations and additional-networks do: a hook and a forward of the person's last picture go with a picture at rest."""
    layer = webui.model.model.diffusion_model.time_embed[0]
    hook = layer.register_forward_hook(lambda *_: None)
    layer.forward = lambda value: value

    def tidy(p: Any, *_: Any) -> None:
        hook.remove()
        layer.__dict__.pop("forward", None)

    webui.scripts.scripts_txt2img.add(extension(webui, "incantations"), [control(False)], tidy)
    host.remember()
    host.picture(PictureRequest("a cat"))
    assert "forward" not in layer.__dict__ and not layer._forward_hooks
    assert host.restoration().differences == ()


def test_an_extension_that_fails_is_named(host: WebuiHost, webui: StubWebui) -> None:
    file = Path(extension(webui, "sd-webui-vectorscope-cc"))
    file.parent.mkdir(parents=True)
    file.write_text("def process(p, *args):\n    raise AttributeError('p has no vectorscope')\n")
    code: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), code)
    webui.scripts.scripts_txt2img.add(str(file), [control(False)], code["process"])
    with pytest.raises(HostError, match="sd-webui-vectorscope-cc failed"):
        host.picture(PictureRequest("a cat"))


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("/data/extensions/a-b/scripts/x.py", "a-b"),
        ("/data/extensions-builtin/Lora/networks.py", "Lora"),
        ("C:\\sd\\extensions\\mine\\lib\\deep\\y.py", "mine"),
        ("/data/modules/processing.py", ""),
        ("/data/extensions/loose.py", ""),
    ],
)
def test_the_extension_of_a_file(file: str, name: str) -> None:
    assert scripts_at_rest.extension_of(file) == name


def test_weights_that_an_extension_changes_in_a_picture_of_ours_stop_the_run_at_once(host: WebuiHost, webui: StubWebui) -> None:
    """As sd-webui-cd-tuner does, which writes in its callback and tidies up in its own postprocess only."""
    host.remember()

    def write() -> None:
        with torch.no_grad():
            dict(webui.model.named_parameters())[TO_Q].mul_(1.5)

    webui.during_picture = write
    with pytest.raises(WeightsChangedError, match="while a picture was made") as caught:
        host.picture(PictureRequest("a cat"))
    assert caught.value.names == (TO_Q,)
    assert any(TO_Q in line for line in host.restoration().differences)


def test_weights_that_are_written_and_put_back_are_no_change(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()

    def write() -> None:
        weight = dict(webui.model.named_parameters())[TO_Q]
        with torch.no_grad():
            before = weight.clone()
            weight.mul_(1.5)
            weight.copy_(before)

    webui.during_picture = write
    host.picture(PictureRequest("a cat"))
    assert host.restoration().differences == ()


def test_a_write_in_a_turn_of_training_stops_the_run_when_the_turn_ends(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    with pytest.raises(WeightsChangedError, match="during a turn of training"), host.lease() as lease:
        lease.tensors[TO_Q].mul_(2.0)


def test_an_error_inside_a_turn_is_the_one_that_is_told(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    with pytest.raises(ZeroDivisionError), host.lease() as lease:
        _ = lease.tensors[TO_Q].mul_(2.0), 1 / 0


def test_a_lora_of_the_person_between_turns_is_no_change(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    for _ in range(2):
        webui.generate(lora="theirs")
        with host.lease():
            pass
        host.picture(PictureRequest("a cat"))
    assert host.restoration().differences == ()
