"""The program that lends its model has other threads, which draw random numbers at any time: none of them draws the same twice because of us."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.fakes.host import Recorder
from tests.fakes.runs import Bench

METHODS = {
    "lora": {},
    "dropout": {"network.dropout": "0.2", "training.gradient_checkpointing": "true"},
    "loha": {"network.adapter": "loha"},
    "lokr": {"network.adapter": "lokr"},
    "prodigy": {"optimizer.name": "prodigy"},
    "lion": {"optimizer.name": "lion"},
    "adafactor": {"optimizer.name": "adafactor"},
    "dreambooth": {"method": "dreambooth", "data.trigger": "sks", "tuning.lora_rank": "2"},
    "bf16": {"method": "dreambooth", "data.trigger": "sks", "tuning.weights": "bf16"},
    "word": {"method": "textual_inversion", "name": "zxqcat"},
    "pivotal": {"method": "pivotal_tuning", "name": "zxqcat", "network.dropout": "0.1"},
    "augmented": {"data.crop": "random", "data.flip": "true", "data.shuffle_tags": "true", "data.caption_dropout": "0.3"},
}


class Neighbour(threading.Thread):
    """Draws what the WebUI's API draws for every request, without asking for the turn."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.python: list[float] = []
        self.numpy: list[float] = []

    def run(self) -> None:
        while not self.over.is_set():
            self.python.append(random.random())
            self.numpy.append(float(np.random.rand()))
            time.sleep(0.001)


@pytest.fixture
def neighbour() -> Iterator[Neighbour]:
    found = Neighbour()
    found.start()
    yield found
    found.over.set()
    found.join()


@pytest.mark.parametrize("which", ["lora", "dropout", "dreambooth", "word"])
def test_a_neighbour_never_draws_the_same_twice(tmp_path: Path, neighbour: Neighbour, which: str) -> None:
    result, _, _ = Bench(tmp_path).run(METHODS[which])
    neighbour.over.set()
    neighbour.join()
    assert len(neighbour.python) > 100 and not result.restoration.differences
    assert len(set(neighbour.python)) == len(neighbour.python) and len(set(neighbour.numpy)) == len(neighbour.numpy)


@pytest.mark.parametrize("which", METHODS)
def test_a_run_draws_from_no_global_state(tmp_path: Path, which: str) -> None:
    bench = Bench(tmp_path)
    python, numpy, own = random.getstate(), np.random.get_state(), torch.get_rng_state()
    bench.run(METHODS[which])
    assert random.getstate() == python and torch.equal(torch.get_rng_state(), own)
    assert np.array_equal(np.random.get_state()[1], numpy[1]) and np.random.get_state()[2] == numpy[2]


@pytest.mark.parametrize("which", METHODS)
def test_what_is_drawn_from_torch_between_steps_is_never_drawn_again(tmp_path: Path, which: str) -> None:
    drawn: list[float] = []

    class Drawing(Recorder):
        def stop_asked(self) -> bool:
            drawn.append(torch.rand(1).item())
            return super().stop_asked()

    bench = Bench(tmp_path)
    bench.run(METHODS[which], recorder=Drawing())
    assert len(drawn) > 4 and len(set(drawn)) == len(drawn)


def test_a_step_without_dropout_leaves_torchs_state_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that not even who draws within a step draws twice."""
    seeded: list[int] = []
    real = torch.manual_seed
    bench = Bench(tmp_path)
    bench.run({"training.steps": "1"})  # the first run of a process builds the views, once
    monkeypatch.setattr(torch, "manual_seed", lambda seed: seeded.append(seed) or real(seed))
    bench.run(folder="second", changes={"name": "dog"})
    assert len(seeded) == 1  # the adapter's first values
    bench.run(folder="third", changes={"name": "owl", "network.dropout": "0.2"})
    assert len(seeded) == 2 + 4 + 1  # the last is of the pass that judges the last step
