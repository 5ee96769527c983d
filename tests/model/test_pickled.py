"""Old checkpoints: their tensors are read, whatever else lies in the file, and nothing of it runs."""

import collections
import os
import sys
import types

import pytest
import torch

from lib_finetune.model import pickled


class Trap:
    """Runs a command when a careless reader unpickles it."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def foreign(monkeypatch):
    """A class of a program that readers do not have, as Lightning's ModelCheckpoint is."""
    module = types.ModuleType("lightning_of_old")
    exec("class Callback:\n    def __init__(self, **kw):\n        self.__dict__.update(kw)\nclass Found(set):\n    pass", module.__dict__)
    module.Callback.__module__ = module.Found.__module__ = "lightning_of_old"
    monkeypatch.setitem(sys.modules, "lightning_of_old", module)
    return module


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_read_beside_foreign_objects(tmp_path, monkeypatch, foreign, zipped):
    weight = torch.randn(3, 4).half()
    content = {
        "state_dict": collections.OrderedDict(weight=weight, bias=torch.nn.Parameter(torch.ones(2))),
        "callbacks": {foreign.Callback: {"best": foreign.Callback(score=torch.tensor(1.0), notes=[foreign.Callback()])}},
        "seen": foreign.Found([1, 2]),
        "global_step": 470000,
    }
    path = tmp_path / "old.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, "lightning_of_old")
    found = pickled.load(path)
    assert found["global_step"] == 470000 and torch.equal(found["state_dict"]["weight"], weight)
    assert torch.equal(found["state_dict"]["bias"].detach(), torch.ones(2))


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_of_a_file_runs(tmp_path, zipped):
    mark, path = tmp_path / "was-here", tmp_path / "bad.ckpt"
    torch.save({"state_dict": {"weight": torch.ones(2)}, "more": Trap(mark)}, path, _use_new_zipfile_serialization=zipped)
    assert torch.equal(pickled.load(path)["state_dict"]["weight"], torch.ones(2)) and not mark.exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half a file"])
def test_a_broken_file_raises_what_is_told(tmp_path, content):
    path = tmp_path / "broken.ckpt"
    path.write_bytes(content)
    with pytest.raises(pickled.ERRORS):
        pickled.load(path)
