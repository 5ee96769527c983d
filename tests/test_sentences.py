"""Where a traceback was, a sentence stands: what is wrong, which file or value, what to do."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lib_finetune.__main__ import main
from lib_finetune.errors import CheckpointError, InputError
from lib_finetune.model import checkpoint_reader
from lib_finetune.text.prompts import TextEncoder
from tests.fakes.host import tiny_tensors
from tests.fakes.pictures import draw
from tests.fakes.runs import Bench


@pytest.mark.parametrize("heads", ["x", "7", "0", "-2", "2.0", "٢", "9" * 400])
def test_heads_that_cannot_be_are_named(tmp_path, capsys, heads):
    draw(tmp_path / "pictures")
    save_file(tiny_tensors(), tmp_path / "tiny.safetensors", metadata={"text_encoder_heads": heads})
    arguments = [
        "train",
        "lora",
        "--checkpoint",
        tmp_path / "tiny.safetensors",
        "--images",
        tmp_path / "pictures",
        "--name",
        "cat",
        "--trigger",
        "zxq",
        "--output-root",
        tmp_path,
    ]
    assert main([str(part) for part in arguments]) == 2
    assert "text_encoder_heads" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["lora", "textual_inversion"])
def test_more_layers_skipped_than_there_are(tmp_path, method):
    with pytest.raises(InputError, match=r"training\.clip_skip: is 12, but the text encoder has \d+ layers"):
        Bench(tmp_path).run({"training.clip_skip": "12", "method": method, "name": "zxqcat"})
    assert TextEncoder  # the check stands there, for training and images alike


def test_a_checkpoint_that_may_not_be_read_is_not_said_to_be_missing(tmp_path, monkeypatch):
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(b"x")
    real = Path.open

    def refuse(self, *args, **named):
        if self == path:
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **named)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointError, match=r"cannot be read \(Permission denied\)"):
        checkpoint_reader.read(path, torch.float32, torch.device("cpu"))


def test_a_reader_that_has_enough_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "lib_finetune", "describe"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(60) == 0
