"""Whole runs on weights in one tensor: as those of weights by themselves, and each goes on with the other's states."""

import dataclasses

import pytest

from lib_finetune.assembly import builder
from lib_finetune.runs.continuation import further
from lib_finetune.runs.runner import Runner
from lib_finetune.training.optim import OPTIMIZERS
from lib_finetune.training.optim.flat import Flat
from tests.fakes.host import Recorder
from tests.fakes.runs import Bench, settings, tensors

RUN = {
    "name": "zxqcat",
    "training.steps": "20",
    "network.text_encoder": "true",
    "training.ema_decay": "0.9",
    "optimizer.clip_norm": "0.05",
    "training.accumulation": "2",
    "saving.precision": "fp32",
    "optimizer.schedule": "constant",
    "optimizer.warmup": "0",
}


def by_themselves(patch):
    """Weights with an optimizer's state each, as before they were put into one tensor."""
    patch.setattr(builder, "OPTIMIZERS", {name: dataclasses.replace(OPTIMIZERS[name], elementwise=False) for name in OPTIMIZERS})


def assert_near(own, other):
    """Within 1e-6 of all there is: the norm of the gradient, which is clipped here, is summed in another order."""
    assert own.keys() == other.keys()
    difference = sum(float((value - other[name]).square().sum()) for name, value in own.items())
    assert difference <= 1e-12 * sum(float(value.square().sum()) for value in other.values())


@pytest.mark.parametrize("changes", [{}, {"network.adapter": "lokr"}, {"method": "pivotal_tuning", "network.conv_rank": "2"}])
def test_twenty_steps_in_float32_are_those_of_weights_by_themselves(tmp_path, monkeypatch, changes):
    bench = Bench(tmp_path)
    together = bench.run({**RUN, **changes}, folder="together", host=bench.host("together"))[0]
    with monkeypatch.context() as patch:
        by_themselves(patch)
        apart = bench.run({**RUN, **changes}, folder="apart", host=bench.host("apart"))[0]
    assert_near(tensors(together.file), tensors(apart.file))


@pytest.mark.parametrize(("first", "name"), [("by themselves", "adamw"), ("together", "adamw"), ("by themselves", "prodigy")])
def test_a_state_that_older_versions_wrote_goes_on_and_the_other_way_about(tmp_path, monkeypatch, first, name):
    bench = Bench(tmp_path)
    host, chosen = bench.host(), {**RUN, "training.steps": "6", "optimizer.name": name, "training.clip_skip": "2"}
    with monkeypatch.context() as patch:
        if first == "by themselves":
            by_themselves(patch)
        bench.run(chosen, host=host)
    source = host.paths.data / "runs" / "run"
    results = []
    for kind in ("by themselves", "together"):
        with monkeypatch.context() as patch:
            if kind == "by themselves":
                by_themselves(patch)
            more, folder = further(
                host, settings(bench.images, chosen), source, None, 4, kind.replace(" ", ""), source.parent / kind.replace(" ", "")
            )
            recorder = Recorder()
            results.append(tensors(Runner(more, host, folder, recorder, recorder).execute().file))
    assert_near(*results)


def test_optimizers_that_look_at_whole_weights_keep_them_apart(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(builder, "Flat", type("Flat", (Flat,), {"__init__": lambda *_: asked.append(1)}))
    Bench(tmp_path).run({"training.steps": "1", "optimizer.name": "adafactor"})
    assert not asked
