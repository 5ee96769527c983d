"""Several processes that train together give what one gives that takes all batches itself."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lib_finetune.app.shared_training import root_of_process, settings_of_process
from lib_finetune.assembly import builder
from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.errors import InputError
from lib_finetune.ports.processes import ALONE
from lib_finetune.runs.runner import Runner
from tests.fakes.host import FakeHost, Recorder, tiny_tensors
from tests.fakes.pictures import draw
from tests.fakes.runs import Bench, settings, tensors

ROOT = Path(__file__).resolve().parents[2]
SHARED = {"training.accumulation": "2", "data.caption_dropout": "0", "training.steps": "4", "optimizer.unet_rate": "1e-2"}


class Thread:
    """Implements `Processes` among the threads of a test."""

    def __init__(self, rank, meeting):
        self.rank, self.count, self.meeting = rank, meeting.barrier.parties, meeting

    def add(self, tensors):
        for tensor in tensors:
            self.meeting.values[self.rank] = tensor.detach().clone()
            self.wait()
            total = sum(self.meeting.values[rank] for rank in range(self.count))
            self.wait()
            tensor.copy_(total)

    def first_says(self, answer):
        if self.rank == 0:
            self.meeting.answer = answer
        self.wait()
        said = self.meeting.answer
        self.wait()
        return said

    def wait(self):
        self.meeting.barrier.wait(timeout=60)


class Meeting:
    def __init__(self, count):
        self.barrier, self.values, self.answer = threading.Barrier(count), {}, False


def together(bench, changes, count=2, stop_at=None, where="shared"):
    """A run of several threads, each with a host and a folder of its own; the results by rank."""
    meeting, results, hosts = Meeting(count), {}, [FakeHost(bench.root / f"{where}-{rank}") for rank in range(count)]

    def work(rank):
        hosts[rank].processes = Thread(rank, meeting)
        recorder = Recorder(stop_at=stop_at if rank == 0 else None)
        folder = hosts[rank].paths.data / "runs" / "run"
        try:
            results[rank] = Runner(settings(bench.images, changes), hosts[rank], folder, recorder, recorder).execute()
        except BaseException:
            meeting.barrier.abort()
            raise

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[rank] for rank in range(count)]


def furthest(first, second):
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    real, lock = builder.bind, threading.Lock()

    def one_at_a_time(*args, **named):  # threads share torch's random states, from which weights begin; processes do not
        with lock:
            return real(*args, **named)

    monkeypatch.setattr(builder, "bind", one_at_a_time)
    return Bench(tmp_path, pictures=4)


@pytest.mark.parametrize("method", [{}, {"method": "textual_inversion", "name": "zxqcat"}])
def test_two_give_what_one_gives(bench, method):
    alone = bench.run({**SHARED, **method})[0]
    shared = together(bench, {**SHARED, **method})
    assert furthest(tensors(alone.file), tensors(shared[0].file)) < 1e-6
    assert furthest(tensors(shared[1].file), tensors(shared[0].file)) == 0.0
    half = bench.run({**SHARED, **method, "training.accumulation": "1"}, host=FakeHost(bench.root / "half"))[0]
    assert furthest(tensors(alone.file), tensors(half.file)) > 1e-6


def test_each_takes_its_share_of_the_batches(bench, monkeypatch):
    from lib_finetune.training.loop import Trainer

    seen = {}
    real = Trainer._one_step

    def noted(self, rates, batches):
        seen.setdefault(self.processes.rank, []).append(list(self._micro_steps()))
        return real(self, rates, batches)

    monkeypatch.setattr(Trainer, "_one_step", noted)
    together(bench, {**SHARED, "training.accumulation": "4", "training.steps": "2"})
    assert seen == {0: [[0, 2], [4, 6]], 1: [[1, 3], [5, 7]]}


def test_all_stop_after_the_step_at_which_the_first_stops_and_one_can_go_on_alone(bench):
    straight = bench.run(SHARED)[0]
    stopped = together(bench, SHARED, stop_at=2)
    assert [result.steps for result in stopped] == [2, 2]
    host = FakeHost(bench.root / "shared-0")
    for file in host.paths.lora.glob("cat*"):
        file.unlink()
    resumed = bench.run(SHARED, host=host)[0]
    assert resumed.steps == 4 and furthest(tensors(straight.file), tensors(resumed.file)) < 1e-6


@pytest.mark.parametrize(
    ("changes", "field", "advice"),
    [
        ({"training.accumulation": "3"}, "training.accumulation", "Set it to 4"),
        ({"method": "dreambooth"}, "tuning.in_backward", "Set it to off"),
        (
            {"method": "dreambooth", "tuning.in_backward": "off", "tuning.host_weights": "exchange"},
            "tuning.host_weights",
            "Set it to beside",
        ),
        ({"objective.prior": "pictures", "data.class_count": "8"}, "data.class_count", "with one process"),
    ],
)
def test_what_cannot_be_shared_is_refused_by_name(changes, field, advice):
    wanted = codec.with_values(Settings(), {"training.accumulation": "2", **changes}.items())
    with pytest.raises(InputError) as refused:
        settings_of_process(wanted, Thread(0, Meeting(2)))
    assert [(problem.field, advice in problem.message) for problem in refused.value.problems] == [(field, True)]
    assert settings_of_process(wanted, ALONE) is wanted


def test_only_the_first_makes_previews_and_the_others_write_elsewhere_with_the_states_to_resume_from(tmp_path):
    state = tmp_path / "out" / ".finetune" / "runs" / "20261201-120000-cat" / "state.safetensors"
    state.parent.mkdir(parents=True)
    state.write_text("state")
    wanted = codec.with_values(Settings(), {"training.accumulation": "2"}.items())
    meeting = Meeting(1)
    first, second = Thread(0, meeting), Thread(0, meeting)
    second.rank = first.count = second.count = 1
    first.count = second.count = 2
    assert settings_of_process(wanted, first).preview.enabled and not settings_of_process(wanted, second).preview.enabled
    with root_of_process(first, tmp_path / "out", "cat") as root:
        assert root == tmp_path / "out"
    with root_of_process(second, tmp_path / "out", "cat") as root:
        assert root != tmp_path / "out"
        assert (root / state.relative_to(tmp_path / "out")).read_text() == "state"
    assert not root.exists()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no collectives")
def test_two_gloo_processes_give_the_file_of_one(tmp_path):
    save_file(tiny_tensors(), tmp_path / "tiny.safetensors", metadata={"text_encoder_heads": "2"})
    images = draw(tmp_path / "images", 4)
    sets = {
        **SHARED,
        "data.trigger": "zxq",
        "network.rank": "2",
        "network.targets": "attention",
        "data.resolution": "64",
        "preview.enabled": "false",
    }
    train = ["-m", "lib_finetune", "train", "lora", "--checkpoint", tmp_path / "tiny.safetensors", "--images", images, "--name", "cat"]
    train += [part for path, value in sets.items() for part in ("--set", f"{path}={value}")]
    files = {}
    for count, launcher in ((1, []), (2, ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"])):
        out = tmp_path / f"of-{count}"
        command = [sys.executable, *launcher, *map(str, train), "--output-root", str(out)]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("done: ") == 1  # the first speaks
        (files[count],) = (out / "models" / "Lora").glob("*.safetensors")
    assert furthest(tensors(files[1]), tensors(files[2])) < 1e-6
