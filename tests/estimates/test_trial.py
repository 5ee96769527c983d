import dataclasses
import json
import time

import numpy as np
import pytest
import torch

from lib_finetune.assembly import automatic_settings
from lib_finetune.assembly.rate_plan import RatePlan
from lib_finetune.errors import CheckpointChangedError, InputError
from lib_finetune.estimates import speed_history, trial
from lib_finetune.model.digest import digest
from lib_finetune.preflight.problems import problems
from tests.fakes.host import tiny_tensors
from tests.fakes.pictures import draw
from tests.fakes.runs import Bench, settings

METHODS = {
    "lora": {},
    "dreambooth": {"method": "dreambooth", "data.trigger": "sks"},
    "textual_inversion": {"method": "textual_inversion", "name": "zxqcat"},
    "pivotal_tuning": {"method": "pivotal_tuning", "name": "zxqcat", "network.begin": "0.5"},
}


def free():
    return None


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def listing(root):
    return sorted(path for path in root.rglob("*") if "tokenizer" not in path.parts)


@pytest.mark.parametrize("method", METHODS)
def test_a_trial_tells_the_time_and_leaves_nothing_but_the_speed(bench, method):
    host, chosen = bench.host(), settings(bench.images, {**METHODS[method], "training.steps": "600"})
    before = listing(bench.root)
    random = torch.get_rng_state(), np.random.get_state()[1].tolist()
    found = trial.probe(chosen, host, free)
    assert found.fits and found.steps == 600 and found.minutes == pytest.approx(10 * found.seconds_per_step)
    assert found.seconds_per_step > 0 and found.peak_bytes > 0 and found.disk_free > found.disk_bytes > 0
    assert torch.equal(random[0], torch.get_rng_state()) and random[1] == np.random.get_state()[1].tolist()
    assert digest(host.held.tensors) == digest(tiny_tensors()) and not host.lock.locked() and "NOT" not in found.restoration
    new = set(listing(bench.root)) - set(before)
    assert {path.name for path in new} <= {speed_history.FILE, ".finetune", "host"}
    assert json.loads(json.dumps(dataclasses.asdict(found)))


def test_the_speed_is_known_afterwards(bench):
    host, chosen = bench.host(), settings(bench.images, {"training.accumulation": "2"})
    found = trial.probe(chosen, host, free)
    (entry,) = speed_history._read(host.paths.data).values()
    assert entry["seconds"] == [found.seconds_per_step / 2] and entry["work"]["method"] == "lora"


def test_it_runs_at_the_largest_size_with_full_batches_and_class_pictures(bench, monkeypatch):
    draw(bench.images / "wide", 1, size=(256, 128), seed=5)
    shown = []
    real = trial.builder.assemble

    def assemble(chosen, found, *args):
        made = real(chosen, found, *args)
        shown.extend(made.plan.items(0))
        return made

    monkeypatch.setattr(trial.builder, "assemble", assemble)
    changes = {"data.resolution": "192", "training.batch": "2", "data.class_count": "5", "data.buckets": "true"}
    found = trial.probe(settings(bench.images, changes), bench.host(), free)
    assert [item.prior for item in shown] == [False, False, True, True]
    assert {item.size for item in shown} == {found.size} and found.size[0] * found.size[1] == 192 * 192


def test_everything_that_will_train_trains_in_it(bench):
    chosen = settings(bench.images, METHODS["pivotal_tuning"])
    few = trial._all_training(automatic_settings.resolved(chosen, 3, 1)[0])
    for step in range(few.training.steps):
        assert all(rate > 0 for rate in RatePlan(few).at(step).values())


def test_it_is_refused_while_a_job_runs(bench):
    host = bench.host()
    with pytest.raises(InputError, match="cat is training"):
        trial.probe(settings(bench.images), host, lambda: "cat is training")
    assert host.turns == 0


def test_wrong_input_is_refused_as_a_run_would(bench):
    chosen = settings(bench.images, {"name": "", "network.rank": "0", "data.held_out": "3"})
    host = bench.host()
    wanted = problems(chosen, host)
    with pytest.raises(InputError) as found:
        trial.probe(chosen, host, free)
    assert list(found.value.problems) == wanted and len(wanted) > 2 and host.turns == 0


@pytest.mark.parametrize("after", [0, 1, 3, 5, 8])
def test_it_can_be_stopped_anywhere(bench, after):
    asked = []

    def stop():
        asked.append(None)
        return len(asked) > after

    host = bench.host()
    stopped = trial.probe(settings(bench.images), host, free, stop)
    assert (stopped is None) == (after < 7), "three images are looked at, one is encoded, and three steps are trained"
    assert not host.lock.locked() and digest(host.held.tensors) == digest(tiny_tensors())
    assert bool(speed_history._read(host.paths.data)) == (after >= 7)


def test_too_little_memory_is_told_with_a_lever(bench, monkeypatch):
    host = bench.host()
    host.faults["lease"] = (3, torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate"))
    found = trial.probe(settings(bench.images), host, free)
    assert not found.fits and found.seconds_per_step is None and found.minutes is None
    assert found.levers == (("training.gradient_checkpointing", True),) and "Set training.gradient_checkpointing to on" in found.message
    assert not speed_history._read(host.paths.data)


def test_another_checkpoint_ends_it(bench, monkeypatch):
    host = bench.host()
    real = host.lease

    def lease(wanted=None, parts=(), **how):
        if wanted and host.turns == 2:
            host.load_other("other")
        return real(wanted, parts, **how)

    monkeypatch.setattr(host, "lease", lease)
    with pytest.raises(CheckpointChangedError):
        trial.probe(settings(bench.images), host, free)
    assert not host.lock.locked()


def test_the_time_of_an_exchange_is_no_time_of_a_step(bench, monkeypatch):
    """A run changes places only when an image is asked for; a trial does it in between."""
    from lib_finetune.training.model_swap import ModelSwap

    real, monotonic, spent = ModelSwap.come, time.monotonic, [0.0]

    def come(self):
        spent[0] += 100.0  # on the clock alone: a real second could not be told from a step on a busy machine
        real(self)

    monkeypatch.setattr(ModelSwap, "come", come)
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + spent[0])
    whole = {"method": "dreambooth", "data.trigger": "sks", "tuning.host_weights": "exchange"}
    found = trial.probe(settings(bench.images, whole), bench.host(), free)
    assert spent[0] and found.seconds_per_step < 25
