"""The hash of a checkpoint file is that of its bytes, and is read again when the file has changed; a program is no checkpoint."""

import hashlib
import os

import pytest
import torch

from lib_finetune.errors import CheckpointError
from lib_finetune.export import checkpoint_writer as export
from lib_finetune.model import checkpoint_reader


def test_the_hash_is_read_once_and_again_after_a_change(tmp_path, monkeypatch):
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"one")
    assert checkpoint_reader.sha256(file) == hashlib.sha256(b"one").hexdigest()
    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.open", None)  # nobody reads it
        assert checkpoint_reader.sha256(file) == hashlib.sha256(b"one").hexdigest()
    state = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))  # same size and time: what a careless copy leaves
    assert checkpoint_reader.sha256(file) == hashlib.sha256(b"two").hexdigest()


def test_a_file_that_is_gone_is_not_remembered(tmp_path):
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"one")
    checkpoint_reader.sha256(file)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        checkpoint_reader.sha256(file)


def test_an_archive_that_holds_a_program_is_refused_as_what_it_is(tmp_path):
    class Runs(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    torch.jit.save(torch.jit.script(Runs()), str(tmp_path / "x.ckpt"))
    with pytest.raises(CheckpointError, match=r"x\.ckpt is a TorchScript archive \(.*\): it holds a program"):
        checkpoint_reader.read(tmp_path / "x.ckpt", torch.float32, torch.device("cpu"))
    with pytest.raises(CheckpointError, match="TorchScript"), export.opened(tmp_path / "x.ckpt"):
        pass
