"""Consoles that have not all letters."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lib_finetune import console
from lib_finetune.cli import Console

ROOT = Path(__file__).resolve().parents[1]


def stream(encoding):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)


@pytest.mark.parametrize(
    ("encoding", "shown"), [("utf-8", "██░░"), ("cp936", "##--"), ("cp1252", "##--"), ("ascii", "##--"), ("cp437", "██░░")]
)
def test_a_bar_is_drawn_in_signs_that_the_console_has(encoding, shown):
    assert console.bar(0.5, 4, stream(encoding)) == shown


@pytest.mark.parametrize("encoding", ["cp1252", "cp936", "ascii"])
def test_a_training_goes_on_telling_of_itself(monkeypatch, encoding):
    out = stream(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    console.take_all_letters()
    sink = Console()
    sink.stage("cache", 1, 2)
    sink.say("猫.safetensors ist fertig – größer")
    sink.say("the next line")
    out.flush()
    written = out.buffer.getvalue().decode(encoding)
    assert "the next line" in written and ".safetensors ist fertig" in written


@pytest.mark.parametrize("encoding", ["cp1252", "cp936"])
def test_the_command_line_ends_well_on_such_a_console(encoding):
    done = subprocess.run(
        [sys.executable, "-m", "lib_finetune", "describe"],
        cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and b"Traceback" not in done.stderr and b"Sampling steps." in done.stdout
