"""The byte count of a step: what a lever saves must be seen in it."""

import sys

import pytest
import torch

from lib_finetune.model.random_weights import small_layout

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="torch 2.1 counts no storages")


@pytest.mark.slow
def test_checkpointing_costs_less():
    from bench.memory import step

    def peak(checkpointing: str) -> float:
        changes = {"training.gradient_checkpointing": checkpointing, "network.text_encoder": "false", "network.targets": "attention"}
        found = step(changes, 128, torch.float16, small_layout(), count=1)
        assert found["weights and adapters"] < found["between steps"] < found["peak"]
        return found["peak"]

    assert peak("true") < peak("false")


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"network.text_encoder": "true"},
        {"method": "textual_inversion"},
        {"method": "dreambooth", "tuning.weights": "bf16", "tuning.in_backward": "on", "optimizer.name": "adamw"},
        {"method": "dreambooth", "tuning.weights": "fp32", "tuning.in_backward": "off", "optimizer.name": "adamw"},
    ],
    ids=["lora", "textual inversion", "dreambooth in the backward pass", "dreambooth at the end of a step"],
)
def test_a_step_keeps_the_optimizers_state(changes):
    from bench.memory import step

    found = step(changes, 128, torch.float16, small_layout())
    assert found["weights and adapters"] < found["between steps"] < found["peak"]


def test_what_is_let_go_of_is_not_counted():
    from bench.memory import LiveBytes

    with LiveBytes() as live:
        first = torch.zeros(1000)
        assert live.now == 4096
        second = first + 1
        del first
        assert (live.now, live.peak) == (4096, 8192) and second.sum() == 1000
