"""Embeddings of other people are read by our own reader."""

import os

import pytest
import torch

from bench.nano import trained
from lib_finetune.errors import CheckpointError, InputError
from lib_finetune.export import embedding_file


class Trap:
    """Runs a command when a careless reader unpickles it."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def saved(path, content, zipped):
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("ending", [".pt", ".bin"])
@pytest.mark.parametrize("stored", ["webui", "diffusers", "paper"])
def test_every_form_of_an_embedding_is_read(tmp_path, zipped, ending, stored):
    vectors = torch.randn(2, 4).half()
    content = {
        "webui": {"string_to_token": {"*": 265}, "string_to_param": {"*": torch.nn.Parameter(vectors)}, "name": "x", "step": 3},
        "diffusers": {"<x>": vectors},
        "paper": {
            "string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(vectors)}),
            "string_to_token": {"*": torch.tensor(265)},
        },
    }[stored]
    path = saved(tmp_path / f"x{ending}", content, zipped)
    assert torch.equal(embedding_file.read(path), vectors.float())
    kind, tensors = trained.read(path)
    assert kind == trained.EMBEDDING and torch.equal(next(iter(tensors.values())), vectors)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_beside_an_embeddings_vectors_runs_or_hinders(tmp_path, zipped):
    path = saved(tmp_path / "x.pt", {"string_to_param": {"*": torch.ones(1, 4)}, "more": Trap(tmp_path / "mark")}, zipped)
    assert embedding_file.read(path).shape == (1, 4) and trained.read(path)[0] == trained.EMBEDDING
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "content", [{"string_to_param": Trap("x")}, {"string_to_param": {"*": 5}}, [1], Trap("x"), {"a": torch.ones(0, 4)}, {}]
)
def test_what_is_no_embedding_is_told(tmp_path, content):
    path = saved(tmp_path / "x.pt", content, True)
    with pytest.raises(CheckpointError, match="no embedding"):
        embedding_file.read(path, "embedding.init")


def test_a_script_is_no_embedding(tmp_path, monkeypatch):
    class Runs(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    torch.jit.save(torch.jit.script(Runs()), str(tmp_path / "x.pt"))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was asked"))
    for read in (embedding_file.read, trained.read):
        with pytest.raises(InputError, match=r"x\.pt is a TorchScript archive"):
            read(tmp_path / "x.pt")


def test_the_file_can_be_replaced_while_its_vectors_are_held(tmp_path):
    path = saved(tmp_path / "x.pt", {"a": torch.ones(1, 4)}, True)
    vectors = embedding_file.read(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert vectors.tolist() == [[1, 1, 1, 1]]
