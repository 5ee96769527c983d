"""One folder for each run, whoever asks at the same time, and none for what was refused."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib_finetune.app.services import services_of
from lib_finetune.errors import InputError, SaveError
from lib_finetune.jobs import record
from lib_finetune.jobs.queue import Jobs
from lib_finetune.jobs.run_folders import make_folder
from lib_finetune.runs.folder import RunFolder
from tests.fakes.runs import Bench, settings

ALIKE = [f"x{sign}y" for sign in "!@#$%^&+=~'"]
"""Names that a folder's name does not tell apart."""


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def held(bench):
    jobs = Jobs(bench.host())
    jobs.hold()
    return jobs


def runs(jobs):
    folder = jobs.host.paths.data / "runs"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def at_once(calls):
    """What each call gives, or raises; all begin together."""
    gate = threading.Barrier(len(calls))

    def one(call):
        gate.wait(30)
        try:
            return call()
        except InputError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def test_names_that_look_alike_have_a_folder_each(bench):
    jobs = held(bench)
    made = at_once([lambda name=name: jobs.submit(settings(bench.images, {"name": name})) for name in ALIKE])
    assert sorted(job.settings.name for job in jobs.known.waiting()) == sorted(ALIKE)
    assert len({job.folder for job in made}) == len(ALIKE) == len(runs(jobs))
    assert all(RunFolder(job.folder).settings().name == job.settings.name and record.read(job.folder) for job in made)


@pytest.mark.parametrize("name", ["y" * 80, "𝒳" * 80, "", ".", "...", "a/b"])
def test_no_two_that_ask_get_the_same_folder(bench, name):
    host = bench.host()
    folders = at_once([lambda: make_folder(host.paths.data, name) for _ in range(8)])
    assert len(set(folders)) == 8 and all(folder.is_dir() and folder.parent.name == "runs" for folder in folders)


def test_of_the_same_name_one_is_taken_and_the_others_leave_nothing(bench):
    jobs = held(bench)
    found = at_once([lambda: jobs.submit(settings(bench.images)) for _ in range(6)])
    assert sum(isinstance(one, InputError) for one in found) == 5 and len(jobs.known.waiting()) == 1
    assert runs(jobs) == [jobs.known.waiting()[0].folder.name]


def test_a_check_and_what_is_refused_leave_no_folder(bench):
    jobs = held(bench)
    jobs.check(settings(bench.images))
    with pytest.raises(InputError):
        jobs.submit(settings(bench.images, {"training.steps": "0"}))
    with pytest.raises(InputError):
        services_of(jobs).trainings.compare(settings(bench.images, {"training.steps": "0"}))
    assert runs(jobs) == []


def test_a_job_that_cannot_be_written_is_not_queued(bench, monkeypatch):
    jobs = held(bench)

    def full(*_):
        raise SaveError("the disk is full")

    monkeypatch.setattr("lib_finetune.runs.folder.write_atomically", full)
    with pytest.raises(SaveError):
        jobs.submit(settings(bench.images))
    assert jobs.known.all() == [] and runs(jobs) == []


def test_a_run_goes_on_once(bench):
    jobs = held(bench)
    folder = make_folder(jobs.host.paths.data, "cat")
    found = at_once([lambda name=name: jobs.submit(settings(bench.images, {"name": name}), folder) for name in ("one", "two", "three")])
    assert sum(isinstance(one, InputError) for one in found) == 2 and len(jobs.known.waiting()) == 1 and folder.is_dir()


def test_more_steps_asked_for_twice_at_once_are_two_runs_or_one(bench):
    services = services_of(Jobs(bench.host()))
    job = services.jobs.submit(settings(bench.images))
    while not job.ended:
        time.sleep(0.02)  # a loop without it takes the interpreter from the run
    services.jobs.hold()
    found = at_once([lambda: services.trainings.more(job.folder.name, 2) for _ in range(3)])
    queued = [one for one in found if not isinstance(one, InputError)]
    assert queued and services.jobs.known.waiting() == queued and len(runs(services.jobs)) == 1 + len(queued)
    assert services.trainings.unfinished() == []


def test_a_folder_that_cannot_be_made_is_told_with_all_else(bench):
    jobs = held(bench)
    place = jobs.host.paths.data
    place.parent.mkdir(parents=True, exist_ok=True)
    place.mkdir(exist_ok=True)
    (place / "runs").write_text("a file where the folder should be")
    with pytest.raises(InputError) as caught:
        jobs.submit(settings(bench.images, {"training.steps": "0"}))
    assert {problem.field for problem in caught.value.problems} >= {"training.steps", "name"}
