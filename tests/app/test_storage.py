"""The size of Finetune's folder, and emptying it."""

import subprocess
import sys

import pytest

from lib_finetune.app import storage
from lib_finetune.errors import InputError, InUseError
from lib_finetune.jobs.folder_lock import run_lock
from lib_finetune.jobs.queue import Jobs
from tests.fakes.runs import Bench, settings


def fill(path, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))


def sizes(data):
    return {part.name: part.size for part in storage.parts(data) if part.size}


def test_parts_are_measured_and_emptied_one_by_one(tmp_path):
    fill(tmp_path / "cache/latents/a.bin", 1000)
    fill(tmp_path / "runs/one/state.safetensors", 500)
    fill(tmp_path / "runs/two/log.csv", 20)
    assert sizes(tmp_path) == {"cache": 1000, "runs": 520}
    assert storage.empty(tmp_path, "cache") == 1000
    assert storage.empty(tmp_path, "runs", {tmp_path / "runs/two"}) == 500
    assert sizes(tmp_path) == {"runs": 20}


def test_nothing_behind_a_link_is_deleted(tmp_path):
    fill(tmp_path / "elsewhere/picture.png", 10)
    (tmp_path / "data/datasets").mkdir(parents=True)
    (tmp_path / "data/datasets/link").symlink_to(tmp_path / "elsewhere")
    storage.empty(tmp_path / "data", "datasets")
    assert (tmp_path / "elsewhere/picture.png").exists() and not (tmp_path / "data/datasets/link").exists()


@pytest.mark.parametrize("name", ["..", "", "presets"])
def test_only_known_parts_are_emptied(tmp_path, name):
    with pytest.raises(InputError, match="no part"):
        storage.empty(tmp_path, name)


HOLD = "import sys; from pathlib import Path; from lib_finetune.jobs.folder_lock import run_lock; "
HOLD += "held = run_lock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"


@pytest.mark.parametrize("who", ["this program", "another program"])
def test_a_run_that_somebody_works_on_is_not_emptied(tmp_path, who):
    """A run of the command line lost its folder in the middle of training: no job tells of it."""
    jobs = Jobs(Bench(tmp_path).host())
    used, free = (jobs.host.paths.data / "runs" / name for name in ("used", "free"))
    for folder in (used, free):
        fill(folder / "state.safetensors", 10)
    if who == "this program":
        with run_lock(used):
            storage.Storage(jobs).empty("runs")
    else:
        with subprocess.Popen([sys.executable, "-c", HOLD, str(used)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout.readline() == b"held\n"
            storage.Storage(jobs).empty("runs")
    assert (used / "state.safetensors").exists() and not free.exists()
    storage.Storage(jobs).empty("runs")
    assert not used.exists()


def test_a_job_that_another_program_goes_on_with_is_not_forgotten(tmp_path):
    bench = Bench(tmp_path)
    jobs = Jobs(bench.host())
    jobs.hold()
    job = jobs.submit(settings(bench.images))
    job.state = "interrupted"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(job.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(InUseError, match="another program"):
            jobs.forget(job.folder.name)
        storage.Storage(jobs).empty("runs")
    assert job.folder.is_dir() and jobs.known.all() == [job]
    jobs.forget(job.folder.name)
    assert not job.folder.exists() and not jobs.known.all()
