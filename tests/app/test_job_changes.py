"""Asking again and again what has changed: small, whole, and the same as asking for everything."""

import dataclasses
import json
import math

import pytest

from lib_finetune.app import job_changes
from lib_finetune.app.services import services_of
from lib_finetune.jobs import loss_series
from lib_finetune.jobs.job import Job
from lib_finetune.jobs.log_files import LogFiles
from lib_finetune.jobs.queue import Jobs
from lib_finetune.jobs.record import Record
from lib_finetune.jobs.status import status_of
from lib_finetune.ports.events import PreviewRow, StepReport
from lib_finetune.runs.folder import RunFolder
from tests.fakes.runs import Bench, settings

JOBS = 100


def _ended_jobs(bench, count):
    """Folders of jobs that an earlier session left, with a curve and a log each."""
    runs = bench.host().paths.data / "runs"
    for place in range(count):
        folder = runs / f"cat-{place:03d}"
        folder.mkdir(parents=True)
        RunFolder(folder).write_settings(dataclasses.replace(settings(bench.images), name=folder.name))
        Record("done", place=place, created=1e9, started=1e9, ended=1e9 + 60, steps=300).save(folder)
        LogFiles(folder).add_losses(1, [0.5 - 0.001 * step for step in range(300)])
        for line in range(3):
            LogFiles(folder).add_line("12:00:00", f"line {line} of the log")


def _running(services, bench):
    folder = bench.host().paths.data / "runs" / "dog"
    folder.mkdir(parents=True)
    job = Job(dataclasses.replace(settings(bench.images), name="dog"), folder)
    services.jobs.known.add(job)
    job.progress.stage("train", 1, 100)
    return job


def _steps(job, step, *losses):
    job.progress.steps(StepReport(step, 100, losses, {"unet": 1e-4}, 1.0))


class Client:
    """Lays each answer over what it has, as the interface says."""

    def __init__(self, trainings):
        self.trainings = trainings
        self.cursor = ""
        self.jobs, self.rest, self.errands = {}, {}, {}

    def ask(self):
        answer = json.loads(json.dumps(self.trainings.changes.since(self.cursor), allow_nan=False))
        size = len(json.dumps(answer))
        self.cursor = answer.pop("cursor")
        if answer.pop("whole"):
            self.jobs, self.errands = {}, {}
        for name in answer.pop("gone"):
            del self.jobs[name]
        for change in answer.pop("jobs"):
            known = self.jobs.setdefault(change["id"], {})
            for name, more in change.pop("added", {}).items():
                known[name] = known[name] + more
            known.update(change)
        self.errands |= {errand["id"]: errand for errand in answer.pop("errands")}
        self.rest |= answer
        return size

    def agrees(self):
        whole = json.loads(json.dumps(self.trainings.overview()))
        jobs = {job["id"]: job for job in whole.pop("jobs")}
        errands = {errand["id"]: errand for errand in whole.pop("errands")}
        return (self.jobs, self.rest, self.errands) == (jobs, whole, errands)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture
def services(bench):
    return services_of(Jobs(bench.host()))


def test_with_a_hundred_ended_jobs_an_idle_question_is_answered_by_less_than_three_kilobytes(bench):
    _ended_jobs(bench, JOBS)
    client = Client(services_of(Jobs(bench.host())).trainings)
    first, again = client.ask(), client.ask()
    assert len(client.jobs) == JOBS and client.agrees()
    assert first > 1_000_000 and again < 200


def test_while_one_of_a_hundred_and_one_trains_only_its_news_are_sent(bench):
    _ended_jobs(bench, JOBS)
    services = services_of(Jobs(bench.host()))
    job, client = _running(services, bench), Client(services.trainings)
    for step in range(1, 60):
        _steps(job, step, 0.5)
    client.ask()
    _steps(job, 60, 0.4)
    job.progress.say("a line")
    assert client.ask() < 3000 and client.agrees()
    assert client.jobs["dog"]["losses"][-1] == [60, 0.4] and client.jobs["dog"]["log"][-1].endswith("a line")


def test_answers_laid_over_one_another_are_the_whole(services, bench):
    job, client = _running(services, bench), Client(services.trainings)
    client.ask()
    _steps(job, 2, 0.5, math.nan)
    job.progress.say("one")
    client.ask()
    assert client.agrees()
    job.progress.previewed(PreviewRow(2, kinds=("subject",), prompts=("a cat",), seeds=(1,), files=("previews/2-0.png",)))
    job.progress.figure("validation", 2, 0.3)
    job.control.stop(keep=True)
    client.ask()
    assert client.agrees() and client.jobs["dog"]["stopping"] and client.jobs["dog"]["validation"] == [[2, 0.3]]
    job.message, job.record.picked, job.state = "Stopped.", 2, "stopped"
    services.jobs.tasks.add("sheet", lambda task: {}).refuse("no")
    services.jobs.hold()
    client.ask()
    assert client.agrees() and client.rest["held"] is True and client.jobs["dog"]["picked"] == 2


def test_two_clients_get_each_their_own_news(services, bench):
    job, quick, slow = _running(services, bench), Client(services.trainings), Client(services.trainings)
    quick.ask()
    slow.ask()
    for step in range(1, 20):
        _steps(job, step, 1 / step)
        job.progress.say(f"line {step}")
        quick.ask()
    assert quick.agrees()
    slow.ask()
    assert slow.agrees()


def test_who_asks_after_very_long_gets_the_series_anew(services, bench):
    job, quick, slow = _running(services, bench), Client(services.trainings), Client(services.trainings)
    slow.ask()
    for step in range(1, 700):
        _steps(job, step, 1 / step)
        quick.ask()
    slow.ask()
    assert slow.agrees()


def test_a_log_that_has_lost_its_first_lines_gives_what_is_left(services, bench):
    job, client = _running(services, bench), Client(services.trainings)
    client.ask()
    for line in range(700):
        job.progress.say(f"line {line}")
    client.ask()
    assert client.jobs["dog"]["log"] == list(job.progress.lines)


def test_a_job_that_is_gone_is_named_and_one_that_returns_is_whole(services, bench):
    job, client = _running(services, bench), Client(services.trainings)
    _steps(job, 1, 0.5)
    client.ask()
    services.jobs.known.remove(job)
    client.ask()
    assert client.jobs == {} and client.agrees()
    services.jobs.known.add(Job(job.settings, job.folder))
    client.ask()
    assert client.jobs["dog"]["losses"] == [] and client.agrees()


def test_a_run_that_resumes_under_the_same_id_is_sent_whole(services, bench):
    job, client = _running(services, bench), Client(services.trainings)
    _steps(job, 1, 0.5)
    client.ask()
    services.jobs.known.add(Job(job.settings, job.folder))
    client.ask()
    assert client.jobs["dog"]["losses"] == [] and client.jobs["dog"]["state"] == "queued" and client.agrees()


def test_a_step_that_ends_while_an_answer_is_made_comes_with_the_next_one_and_once(services, bench, monkeypatch):
    job, client = _running(services, bench), Client(services.trainings)
    real = job_changes.extent_of

    def meanwhile(job):
        extent = real(job)
        _steps(job, len(job.progress.losses) + 1, 0.5)
        job.progress.say("meanwhile")
        return extent

    _steps(job, 1, 0.5)
    monkeypatch.setattr(job_changes, "extent_of", meanwhile)
    client.ask()
    client.ask()
    monkeypatch.undo()
    client.ask()
    assert client.agrees() and len(client.jobs["dog"]["losses"]) == 3 == 1 + len(client.jobs["dog"]["log"])


@pytest.mark.parametrize(
    "cursor",
    ["", "-", "x", "0", "12345678-1", "-1", "{session}-99999", "{session}--1", "{session}-1e3", "{session}-" + "9" * 400, "{session}-٣"],
)
def test_an_unknown_cursor_gets_everything(services, bench, cursor):
    _running(services, bench)
    session = services.trainings.changes.since("")["cursor"].partition("-")[0]
    answer = services.trainings.changes.since(cursor.format(session=session))
    assert answer["whole"] and len(answer["jobs"]) == 1 and "losses" in answer["jobs"][0] and not answer["gone"]


def test_a_loss_is_smoothed_once(services, bench, monkeypatch):
    job = _running(services, bench)
    counted = []
    monkeypatch.setattr(loss_series.math, "isfinite", lambda value, real=math.isfinite: counted.append(value) or real(value))
    _steps(job, 500, *[0.5] * 500)
    smoothed = len(counted)
    for _ in range(20):
        shown = status_of(job)
    assert smoothed >= 500 and len([value for value in counted if value == 0.5]) == 500 and len(shown["smooth"]) == 500


def test_the_smoothed_curve_is_that_of_all_losses_at_once(services, bench):
    job = _running(services, bench)
    losses = [1.0, math.nan, 0.5, 0.25, math.inf, 0.125]
    for step, loss in enumerate(losses, start=1):
        _steps(job, step, loss)
    mean = weight = 0.0
    expected = []
    for step, loss in enumerate(losses, start=1):
        if math.isfinite(loss):
            mean, weight = 0.95 * mean + 0.05 * loss, 0.95 * weight + 0.05
            expected.append((step, mean / weight))
    assert dict(status_of(job)["smooth"]) == pytest.approx(dict(expected))
