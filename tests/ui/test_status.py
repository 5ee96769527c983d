"""What the tab shows of a job."""

import time

import pytest

from lib_finetune.errors import InputError
from lib_finetune.jobs.job import Job
from lib_finetune.jobs.queue import Jobs
from lib_finetune.jobs.run_folders import unfinished
from lib_finetune.jobs.status import status_of
from lib_finetune.ports.events import StepReport
from lib_finetune.ui import status
from tests.fakes.runs import Bench, settings


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def shown(job):
    return {**status_of(job), "method": job.settings.method, "call": ""}


def finished(job, seconds=180):
    deadline = time.monotonic() + seconds
    while not job.ended and time.monotonic() < deadline:
        time.sleep(0.02)
    return job


def test_without_a_job_the_panel_says_what_to_do():
    assert "press Train" in status.render(None, None)


def test_a_running_job_shows_step_speed_and_time(tmp_path):
    job = Job(settings(tmp_path), tmp_path)
    for step in (10, 20):
        job.progress.steps(StepReport(step, 100, tuple([0.5] * 10), {"unet": 1e-4}, 5.0))
    html = status.render(shown(job), {"now": 2**30, "peak": 2**31, "total": 2**33})
    assert all(text in html for text in ("20/100", "2.00 it/s", "40 s left", "1.0 GB", "1.00e-04"))


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.25, "4.00 it/s"), (0.8, "1.25 it/s"), (1.0, "1.00 it/s"), (1.25, "1.2 s/it"), (4.0, "4.0 s/it")]
)
def test_fast_steps_are_told_by_the_second_and_slow_ones_by_the_step(tmp_path, seconds, words):
    job = Job(settings(tmp_path), tmp_path)
    for step in (10, 20):
        job.progress.steps(StepReport(step, 100, tuple([0.5] * 10), {"unet": 1e-4}, 10 * seconds))
    assert words in status.render(shown(job), None)


@pytest.mark.parametrize("state", ["queued", "running", "paused", "done"])
def test_a_job_is_paused_in_that_state_only(tmp_path, state):
    job = Job(settings(tmp_path), tmp_path)
    job.progress.state = state
    assert status_of(job)["paused"] == (state == "paused")


def test_what_the_person_typed_is_escaped(tmp_path):
    job = Job(settings(tmp_path, {"name": "<b>x"}), tmp_path)
    job.progress.say("<script>")
    html = status.render(shown(job), None)
    assert "<script>" not in html and "<b>x" not in html


@pytest.mark.parametrize(("seconds", "words"), [(40, "40 s"), (360, "6 min"), (7500, "2 h 05 min")])
def test_durations_are_said_as_people_do(seconds, words):
    assert status.duration(seconds) == words


def test_a_job_runs_in_its_thread_and_ends_with_its_file(bench):
    jobs = Jobs(bench.host())
    job = finished(jobs.submit(settings(bench.images)))
    assert job.state == "done" and job.file is not None and job.file.exists() and job.message == "Done: cat.safetensors, 4 steps."
    assert any("exactly as it was" in line for line in job.progress.lines)
    assert jobs.known.current() is job


def test_wrong_input_is_refused_before_anything_is_queued(bench):
    jobs = Jobs(bench.host())
    with pytest.raises(InputError):
        jobs.submit(settings(bench.root / "nowhere"))
    assert not jobs.known.all()


def test_a_second_press_of_train_is_refused(bench):
    jobs = Jobs(bench.host())
    first = jobs.submit(settings(bench.images, {"training.steps": "50"}))
    with pytest.raises(InputError, match="running or waits"):
        jobs.submit(settings(bench.images))
    first.control.stop(keep=False)
    finished(first)


def test_a_failure_is_told_and_the_next_job_runs(bench):
    host = bench.host()
    jobs = Jobs(host)
    host.faults["lease"] = (0, RuntimeError("boom"))
    job = finished(jobs.submit(settings(bench.images)))
    assert job.state == "failed" and "boom" in job.message and (job.folder / "traceback.txt").exists()
    host.faults.clear()
    assert finished(jobs.submit(settings(bench.images, {"name": "dog"}))).state == "done"


def test_a_stopped_job_can_be_continued_later(bench):
    host = bench.host()
    jobs = Jobs(host)
    job = jobs.submit(settings(bench.images, {"training.steps": "400"}))
    while not job.progress.losses:
        time.sleep(0.02)
    job.control.stop(keep=True)
    finished(job)
    assert job.state == "stopped" and unfinished(host) == [job.folder] and unfinished(host, "cat") and not unfinished(host, "dog")
