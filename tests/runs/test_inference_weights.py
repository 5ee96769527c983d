"""Weights that were made under `torch.inference_mode`, as other hosts and extensions make them: every method trains on them, and they stay as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.digest import digest
from lib_finetune.model.random_weights import small_layout
from tests.fakes.host import FakeHost, tiny_tensors
from tests.fakes.runs import Bench, same, tensors


def under_inference(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies that are inference tensors, some of them views as a part of a larger tensor is."""
    with torch.inference_mode():
        copies = {
            name: torch.stack([weight, weight])[1] if place % 2 else weight.clone() for place, (name, weight) in enumerate(weights.items())
        }
    assert all(copy.is_inference() for copy in copies.values())
    return copies


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, pictures=1)


def host_of(bench: Bench, where: str) -> FakeHost:
    host = bench.host(where)
    host.held.tensors = under_inference(host.held.tensors)
    return host


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "lora"},
        {"method": "lora", "network.adapter": "lokr", "network.conv_rank": "2"},
        {"method": "lora", "training.gradient_checkpointing": "true"},
        {"method": "lora", "data.class_count": "0"},
        {"method": "textual_inversion"},
        {"method": "pivotal_tuning"},
        {"method": "dreambooth"},
        {"method": "dreambooth", "tuning.host_weights": "exchange", "tuning.weights": "bf16"},
    ],
    ids=lambda changes: "-".join(changes.values()),
)
def test_what_is_trained_on_them_equals_what_is_trained_on_others(bench: Bench, changes: dict[str, str]) -> None:
    steps = {"name": "zxq-cat", "training.steps": "2", **changes}
    host = host_of(bench, "inference")
    before = digest(host.held.tensors)
    result, _, _ = bench.run(steps, host=host)
    usual, _, _ = bench.run(steps, host=bench.host("usual"))
    assert same(tensors(result.file), tensors(usual.file)) and not result.restoration.differences
    assert digest(host.held.tensors) == before


def test_a_view_is_bound_to_their_storage() -> None:
    weights = under_inference(tiny_tensors())
    model = BorrowedModel(small_layout())
    with model.bound(weights):
        for slot in model.slots:
            bound = slot.module._parameters[slot.leaf]
            assert bound.data_ptr() == weights[slot.source].data_ptr() and not bound.is_inference()
    with torch.inference_mode(), model.bound(weights):
        assert not model.unet.conv_in.weight.is_inference()
