"""A run that something fails in, at each of its stages: a full disk, no memory, images that are gone, a clock that is set back.

After each: the error is a sentence of ours, no half file lies anywhere, and the run, begun again, makes the file that an undisturbed one makes.
How many of how many held is printed. A standard run draws six files, four stages, one way and one clock a method;
FINETUNE_FAULTS=all takes all of them, and every file at four amounts of room.
"""

import os
import random
import re
import shutil
import subprocess
import time
from collections import Counter

import pytest
import torch

from lib_finetune.app import job_view
from lib_finetune.errors import FinetuneError
from lib_finetune.jobs.queue import Jobs
from lib_finetune.ui import queue
from tests.fakes.full_disk import FullDisk
from tests.fakes.host import Recorder
from tests.fakes.runs import Bench, same, settings, tensors
from tests.faults import driver

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ALL = os.environ.get("FINETUNE_FAULTS") == "all"
ON_THE_WAY = {
    "name": "zxqcat", "training.steps": "4", "saving.state_every": "1", "saving.every_steps": "2", "preview.enabled": "true", "preview.every": "2",
    "preview.steps": "2", "training.ema_decay": "0.9",
}  # fmt: skip
METHODS = {
    "lora": {"network.dropout": "0.1"},
    "textual_inversion": {"embedding.vectors": "2"},
    "pivotal_tuning": {"embedding.vectors": "2", "embedding.until": "1"},
    "dreambooth": {"data.class_count": "2", "data.trigger": "sks"},
}
NO_MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def changes_of(method):
    return {**ON_THE_WAY, **METHODS[method], "method": method}


def kind_of(temporary):
    """What a temporary file becomes, whatever its step or key: ".finetune/runs/run/state.safetensors"."""
    parts = (*temporary.parts[:-1], temporary.name[1:-14])
    top = next(place for place, part in enumerate(parts) if part in (".finetune", "models", "embeddings"))
    return re.sub(r"[0-9a-f]{8,}|\d+", "#", "/".join(parts[top:]))


def half_files(root):
    return [path for path in root.rglob("*") if path.name.endswith((".part", ".new", ".tmp")) or path.name == "preview.safetensors"]


def begun_again(bench, changes, host, straight):
    """What is wrong with the run that is begun again after a fault, or ""."""
    present = [
        path
        for path in host.paths.data.parent.rglob("*")
        if path.is_file() and path.stem == "zxqcat" and path.suffix in (".safetensors", ".ckpt")
    ]
    if not present:
        try:
            present = [bench.run(changes, host=host)[0].file]
        except Exception as error:  # noqa: BLE001  it is what is told
            return f"begun again: {error!r}"
    if not same(tensors(present[0]), tensors(straight.file)):
        return "other tensors"
    if twice := [path.name for path in host.paths.data.parent.rglob("zxqcat-2*")]:
        return f"there twice: {twice}"
    return f"half files: {half}" if (half := half_files(host.paths.data.parent)) else ""


def with_fault(bench, changes, host, words):
    """Run with a fault in force: what is wrong with how it ended, or ""."""
    recorder = Recorder()
    try:
        bench.run(changes, host=host, recorder=recorder)
    except FinetuneError as error:
        if not re.search(words, str(error)):
            return f"said: {error}"
    except Exception as error:  # noqa: BLE001  it is what is told
        return f"no sentence: {error!r}"
    return f"half files: {half}" if (half := half_files(host.paths.data.parent)) else ""


def told(method, what, outcomes):
    wrong = {case: reason for case, reason in outcomes.items() if reason}
    print(f"{what}, {method}: {len(outcomes) - len(wrong)} of {len(outcomes)} held")
    assert outcomes and not wrong, "\n".join(f"{case}: {reason}" for case, reason in wrong.items())


@pytest.mark.parametrize("method", list(METHODS))
def test_a_disk_that_is_full_at_any_file(bench, monkeypatch, method):
    changes = changes_of(method)
    with monkeypatch.context() as patched:
        watched = FullDisk(patched, room=10**12)
        straight = bench.run(changes, host=bench.host("straight"))[0]
    sizes = {}
    for path, size in watched.sizes.items():
        if "tokenizer" not in path.parts:  # written once for all hosts of the tests
            sizes[kind_of(path)] = min(size, sizes.get(kind_of(path), size))
    assert len(sizes) > 6, sizes
    outcomes, drawn = {}, sorted(sizes.items())
    for place, (kind, size) in enumerate(drawn if ALL else random.Random(method).sample(drawn, 6)):
        rooms = sorted({0, 1, size // 2, size * 4 // 5})
        for room in rooms if ALL else [random.Random(place).choice(rooms)]:
            host = bench.host(f"{place}-{room}")
            with monkeypatch.context() as patched:
                disk = FullDisk(patched, lambda path, kind=kind: kind_of(path) == kind, room)
                wrong = with_fault(bench, changes, host, "could not be written: No space left on device|could not be made")
            outcomes[f"{kind} after {room} bytes"] = (
                wrong or ("" if disk.refused else "nothing was refused") or begun_again(bench, changes, host, straight)
            )
            shutil.rmtree(host.paths.data.parent, ignore_errors=True)
    told(method, "disk full", outcomes)


def places(method):
    """Stage → (where the error is raised, at which call)."""
    kind = "".join(part.capitalize() for part in method.split("_"))
    module = {"lora": "lora.LoraMethod", "dreambooth": "dreambooth.DreamBoothMethod"}.get(method, f"{method}.{kind}Method")
    return {
        "binding": ("lib_finetune.assembly.builder.assemble", 0),
        "encoding the first image": ("lib_finetune.assembly.builder.encode", 0),
        "encoding the second image": ("lib_finetune.assembly.builder.encode", 1),
        "step 1": (f"lib_finetune.training.methods.{module}.loss", 0),
        "step 3": (f"lib_finetune.training.methods.{module}.loss", 2),
        "backward of step 2": ("torch.Tensor.backward", 1),
        "a preview": ("pictures", 0),
        "loading the result": ("artifact_saved", 0),
    }


@pytest.mark.parametrize("method", list(METHODS))
def test_no_memory_at_any_stage(bench, monkeypatch, method):
    changes = changes_of(method)
    straight = bench.run(changes, host=bench.host("straight"))[0]
    outcomes = {}
    stages = list(places(method).items())
    for stage, (place, after) in stages if ALL else random.Random(method).sample(stages, 4):
        host = bench.host(stage.replace(" ", "-"))
        with monkeypatch.context() as patched:
            if "." in place:
                raising = _raising(place, after)
                patched.setattr(place, raising)
            else:
                host.faults[place] = (after, NO_MEMORY)
            wrong = with_fault(bench, changes, host, "memory")
        host.faults.clear()
        outcomes[stage] = wrong or begun_again(bench, changes, host, straight)
    told(method, "no memory", outcomes)


def _raising(place, after):
    from pydoc import locate

    real, calls = locate(place), []

    def fail(*args, **named):
        calls.append(1)
        if len(calls) > after:
            raise NO_MEMORY
        return real(*args, **named)

    return fail


class AtStep(Recorder):
    """Does something once, after a step."""

    def __init__(self, step, action):
        super().__init__()
        self.step, self.action, self.acted = step, action, False

    def steps(self, report):
        super().steps(report)
        if not self.acted and len(self.losses) >= self.step:
            self.acted = True
            self.action()


@pytest.fixture
def each_step(monkeypatch):
    """Every step is a turn of its own, and is told at once."""
    monkeypatch.setattr("lib_finetune.training.turns.Turns.__init__.__defaults__", (0.0,))


WAYS = {"cut anew": {"data.crop": "random", "data.flip": "true"}, "from the cache": {}, "in memory": {"data.disk_cache": "false"}}
"""How a run comes by its images."""


@pytest.mark.parametrize("way", list(WAYS) if ALL else ["cut anew"])
@pytest.mark.parametrize("method", list(METHODS))
def test_images_that_are_deleted_in_the_middle(bench, each_step, method, way):
    changes, away = {**changes_of(method), **WAYS[way]}, bench.root / "away"
    straight, host = bench.run(changes, host=bench.host("straight"))[0], bench.host()
    recorder = AtStep(2, lambda: bench.images.rename(away))
    result, words = None, "pictures"
    try:
        result = bench.run(changes, host=host, recorder=recorder)[0]
    except FinetuneError as error:
        words = str(error)
    assert "pictures" in words and "Errno" not in words, words
    assert recorder.acted and not half_files(bench.root)
    if result is not None:  # nothing was asked of the images any more
        assert same(tensors(result.file), tensors(straight.file))
        return
    with pytest.raises(FinetuneError, match="pictures"):  # still gone: said before anything begins
        bench.run(changes, host=host)
    away.rename(bench.images)
    assert same(tensors(bench.run(changes, host=host)[0].file), tensors(straight.file))


@pytest.mark.parametrize("back_s", [400 * 86400.0, 3600.0, -86400.0] if ALL else [400 * 86400.0])
@pytest.mark.parametrize("method", list(METHODS))
def test_a_clock_that_is_set_in_the_middle(bench, each_step, monkeypatch, method, back_s):
    changes = changes_of(method)
    straight, host, real = bench.run(changes, host=bench.host("straight"))[0], bench.host(), time.time
    recorder = AtStep(2, lambda: monkeypatch.setattr(time, "time", lambda: real() - back_s))
    recorder.stop_at, recorder.discard = 3, True
    bench.run(changes, host=host, recorder=recorder)
    for place, path in enumerate(sorted(host.paths.data.rglob("*"))):  # times that tell nothing
        os.utime(path, (10**9 - place, 10**9 - place))
    assert recorder.acted
    assert same(tensors(bench.run(changes, host=host)[0].file), tensors(straight.file))
    assert not half_files(bench.root)


def test_a_job_whose_clock_was_set_back_took_no_time_below_zero(bench, monkeypatch):
    jobs, real = Jobs(bench.host()), time.time
    jobs.hold()
    job = jobs.submit(settings(bench.images))
    monkeypatch.setattr(time, "time", lambda: real() - (86400.0 if job.progress.losses else 0.0))
    jobs.go()
    until = time.monotonic() + 200
    while not job.ended and time.monotonic() < until:
        time.sleep(0.02)
    shown = queue.history({"jobs": [job_view.figures(job)]}, "key")
    assert job.state == "done" and job.record.ended < job.record.started and "4 steps, 0 s" in shown


@pytest.mark.skipif(not os.environ.get("FINETUNE_TMPFS"), reason="a small file system is mounted with FINETUNE_TMPFS=1, as root on Linux")
@pytest.mark.parametrize("method", list(driver.METHODS))
def test_a_disk_that_another_program_fills(tmp_path, method):
    """A real file system of 256 MB: full from the first state on until the run says that it waits."""
    world, small = driver.make_world(tmp_path), tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(small)], check=True)
    try:
        out = small / "out"
        assert driver.start(world, method, tmp_path / "straight").wait(600) == 0
        process, filler, printed = driver.start(world, method, out), small / "filler", []
        until = time.monotonic() + 600
        while not any(out.glob(".finetune/runs/*/state*.safetensors")) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.001)
        _fill(filler)
        for line in process.stdout:
            printed.append(line)
            if "tried again for" in line:
                filler.unlink()
        assert process.wait(600) == 0, "".join(printed)
        assert any("No space left on device" in line for line in printed) and "Traceback" not in "".join(printed)
        files, expected = driver.result_files(out), driver.result_files(tmp_path / "straight")
        for name in [name for name in expected if name.endswith(f"{driver.NAME}.safetensors")]:
            assert same(tensors(files[name]), tensors(expected[name]))
        assert not driver.half_files(out)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def _fill(path):
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def test_the_stages_are_those_of_a_run(bench, monkeypatch):
    """Or the tests above would draw from fewer files than a run writes."""
    watched = FullDisk(monkeypatch, room=10**12)
    bench.run(changes_of("lora"))
    kinds = Counter(kind_of(path) for path in watched.sizes)
    for part in ("settings.json", "state-next.safetensors", "zxqcat.safetensors", "zxqcat-#.safetensors", "zxqcat.json", ".png"):
        assert any(part in kind for kind in kinds), (part, kinds)
