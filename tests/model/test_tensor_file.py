"""The streamed .safetensors file, read back by safetensors itself."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from lib_finetune.errors import SaveError
from lib_finetune.model import tensor_file
from lib_finetune.model.tensor_file import Entry, entry

TENSORS = {
    "é": torch.arange(3, dtype=torch.int64),
    "half": torch.randn(2, 3).half(),
    "brain": torch.randn(5).bfloat16(),
    "flag": torch.tensor([True, False]),
    "whole": torch.randn(2, 2).t(),
    "single": torch.tensor(2.5),
    "none": torch.empty(0),
}


def test_safetensors_reads_it(tmp_path):
    tensor_file.write(tmp_path / "a.safetensors", {name: entry(value) for name, value in TENSORS.items()}, {"k": "v"})
    read = load_file(str(tmp_path / "a.safetensors"))
    assert read.keys() == TENSORS.keys() and all(torch.equal(read[name], value) for name, value in TENSORS.items())
    with safe_open(str(tmp_path / "a.safetensors"), "pt") as file:
        assert file.metadata() == {"k": "v"}


def test_tensors_are_asked_for_one_after_the_other(tmp_path):
    alive = []

    def give(number):
        alive.append(number)
        return torch.full((4,), float(number))

    entries = {f"t{n}": Entry(torch.float32, (4,), lambda n=n: give(n)) for n in range(3)}
    assert sum(each.size for each in entries.values()) == 48 and not alive
    tensor_file.write(tmp_path / "a.safetensors", entries, {})
    assert alive == [0, 1, 2]


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.safetensors"
    tensor_file.write(path, {"t": entry(torch.ones(1))}, {})

    def full():
        raise OSError(28, "No space left on device")

    with pytest.raises(SaveError, match="No space left"):
        tensor_file.write(path, {"t": entry(torch.zeros(1)), "u": Entry(torch.float32, (1,), full)}, {})
    assert load_file(str(path))["t"].item() == 1 and [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_another_tensor_than_announced_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="announced"):
        tensor_file.write(tmp_path / "a.safetensors", {"t": Entry(torch.float32, (2,), lambda: torch.zeros(3))}, {})
    assert not list(tmp_path.iterdir())
