"""The queue: its order, what can be done with those that wait, and what is found after a restart."""

import threading
import time

import pytest

from lib_finetune.errors import InputError
from lib_finetune.jobs import record
from lib_finetune.jobs.free_name import free_name
from lib_finetune.jobs.queue import Jobs
from lib_finetune.jobs.run_folders import unfinished
from lib_finetune.jobs.status import since
from lib_finetune.runs.folder import RunFolder
from tests.fakes.runs import Bench, settings


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def settle(jobs, *wanted, seconds=180):
    """Wait until these jobs have ended."""
    deadline = time.monotonic() + seconds
    while not all(job.ended for job in wanted) and time.monotonic() < deadline:
        time.sleep(0.02)
    return [job.state for job in wanted]


def named(bench, name, changes=None):
    return settings(bench.images, {"name": name, **(changes or {})})


def held(bench, *names):
    """A queue that is held, with jobs of these names."""
    jobs = Jobs(bench.host())
    jobs.hold()
    return jobs, [jobs.submit(named(bench, name)) for name in names]


def names(jobs):
    return [job.settings.name for job in jobs.known.waiting()]


def test_jobs_run_in_the_order_of_the_queue(bench):
    jobs, (a, b, c) = held(bench, "a", "b", "c")
    jobs.move(c.folder.name, a.folder.name)
    assert names(jobs) == ["c", "a", "b"]
    jobs.move(c.folder.name, None)
    jobs.move(b.folder.name, a.folder.name)
    assert names(jobs) == ["b", "a", "c"]
    jobs.go()
    assert settle(jobs, a, b, c) == ["done"] * 3
    assert b.record.started < a.record.started < c.record.started


def test_a_name_that_looks_like_that_of_a_waiting_job_is_taken(bench):
    jobs, (job,) = held(bench, "cafe\u0301")
    with pytest.raises(InputError, match="waits already"):
        jobs.submit(named(bench, "caf\u00e9"))
    assert free_name("caf\u00e9", "lora", jobs.known.all(), jobs.host.paths) == "caf\u00e9-2" and unfinished(jobs.host, "caf\u00e9") == []
    assert job.folder.name.endswith("caf\u00e9")


def test_a_held_queue_begins_nothing(bench):
    _, (a,) = held(bench, "a")
    time.sleep(0.3)
    assert a.state == "queued" and not a.progress.losses
    assert (a.record.started, a.record.ended, a.record.steps, a.record.peak) == (0, 0, 0, 0) and a.record.created > 0


def test_a_waiting_job_is_cancelled_and_one_that_has_ended_is_forgotten(bench):
    jobs, (a, b) = held(bench, "a", "b")
    jobs.cancel(a.folder.name)
    assert a.state == "discarded" and names(jobs) == ["b"]
    jobs.forget(a.folder.name)
    assert not a.folder.exists() and jobs.known.all() == [b]
    with pytest.raises(InputError, match="has not ended"):
        jobs.forget(b.folder.name)
    jobs.go()
    settle(jobs, b)
    with pytest.raises(InputError, match="does not wait"):
        jobs.cancel(b.folder.name)


def test_a_waiting_job_takes_other_settings_but_not_wrong_ones(bench):
    jobs, (a,) = held(bench, "a")
    jobs.edit(a.folder.name, named(bench, "a", {"training.steps": "3"}))
    with pytest.raises(InputError):
        jobs.edit(a.folder.name, named(bench, "a", {"training.steps": "0"}))
    assert a.settings.training.steps == 3
    b = jobs.submit(named(bench, "b"))
    with pytest.raises(InputError, match="running or waits already"):
        jobs.edit(b.folder.name, named(bench, "a"))
    assert b.settings.name == "b"
    jobs.cancel(b.folder.name)
    jobs.go()
    settle(jobs, a)
    assert len(a.progress.losses) == 3


def test_after_a_restart_the_queue_is_there_in_its_order_and_waits_to_be_let_go(bench):
    jobs, (a, b) = held(bench, "a", "b")
    jobs.move(b.folder.name, a.folder.name)
    again = Jobs(bench.host())
    assert names(again) == ["b", "a"] and again.held
    found = again.known.all()
    again.go()
    assert settle(again, *found) == ["done", "done"]


def test_after_a_restart_results_are_there_with_their_curves(bench):
    host = bench.host()
    jobs = Jobs(host)
    job = jobs.submit(named(bench, "a"))
    settle(jobs, job)
    (found,) = Jobs(bench.host()).known.all()
    assert (found.state, found.message, found.file) == ("done", job.message, job.file)
    assert dict(found.progress.losses) == pytest.approx(dict(job.progress.losses), abs=1e-5)
    assert found.record == job.record and found.record.steps == 4 and found.record.files == {"lora": str(job.file)}


def test_a_job_that_the_restart_ended_says_so_and_can_go_on(bench):
    host = bench.host()
    jobs = Jobs(host)
    job = jobs.submit(named(bench, "a", {"training.steps": "300", "saving.state_every": "5"}))
    while not unfinished(host):
        time.sleep(0.02)
    kept = record.read(job.folder)
    job.control.stop(keep=True)
    settle(jobs, job)
    kept.save(job.folder)  # as it stood when the program was killed
    again = Jobs(bench.host())
    (found,) = again.known.all()
    assert found.state == "interrupted" and "can be resumed" in found.message
    assert not again.held  # it does not begin by itself, and nothing waits
    went_on = again.submit(found.settings, found.folder)
    assert again.known.all() == [went_on]
    went_on.control.stop(keep=False)
    settle(again, went_on)


def test_a_damaged_record_hides_no_other(bench):
    _, (a, _) = held(bench, "a", "b")
    RunFolder(a.folder).record.write_text("{")
    assert names(Jobs(bench.host())) == ["b"]


def test_errands_go_before_the_next_job_and_tell_what_went_wrong(bench):
    jobs, (a,) = held(bench, "a")
    order = []

    def fail(_):
        order.append("errand")
        raise ValueError("boom")

    gate = threading.Event()
    first = jobs.tasks.add("wait", lambda errand: gate.wait(60) and {"done": errand.progress(1, 2)})
    bad = jobs.tasks.add("bad", fail)
    jobs.when_ended(lambda job: order.append(job.settings.name))
    jobs.go()
    gate.set()
    settle(jobs, a)
    assert order == ["errand", "a"]
    assert (first.state, first.done, first.total) == ("done", 1, 2) and bad.state == "failed" and "boom" in bad.message


def test_a_free_name_is_free_of_jobs_and_files(bench):
    jobs, _ = held(bench, "a")
    host = jobs.host
    host.paths.lora.mkdir(parents=True, exist_ok=True)
    (host.paths.lora / "b.safetensors").write_bytes(b"")
    assert [free_name(name, "lora", jobs.known.all(), jobs.host.paths) for name in ("a", "b", "c")] == ["a-2", "b-2", "c"]


def test_events_are_told_once(bench):
    _, (a,) = held(bench, "a")
    a.progress.say("one")
    first = since(a, 0, 0)
    a.progress.say("two")
    assert [line[9:] for line in first["log"]] == ["one"]
    assert [line[9:] for line in since(a, first["line"], 0)["log"]] == ["two"]


def test_a_job_cannot_be_moved_before_itself_into_trouble(bench):
    jobs = Jobs(bench.host())
    jobs.hold()
    one, two = (jobs.submit(settings(bench.images, {"name": name})) for name in ("one", "two"))
    jobs.move(one.folder.name, one.folder.name)
    assert jobs.known.waiting() == [one, two]


def test_what_was_written_when_the_training_failed_is_known(bench, monkeypatch):
    from lib_finetune.training.methods.lora import LoraMethod

    real, calls = LoraMethod.loss, []

    def loss(self, batch, generator):
        calls.append(1)
        value, report = real(self, batch, generator)
        return (value * float("nan") if len(calls) > 12 else value), report

    monkeypatch.setattr(LoraMethod, "loss", loss)
    jobs = Jobs(bench.host())
    job = jobs.submit(settings(bench.images, {"training.steps": "30"}))
    settle(jobs, job)
    assert job.state == "failed" and job.file is not None and job.file.is_file()
    assert 1 <= job.record.steps <= 12 and job.record.files["lora"] == str(job.file)


def test_files_of_the_way_are_known_when_the_program_is_killed(bench, monkeypatch):
    from lib_finetune.jobs import record

    jobs, seen = Jobs(bench.host()), []
    job = jobs.submit(settings(bench.images, {"saving.every_steps": "2"}))
    real = type(job.progress).points

    def points(self, snapshots):
        real(self, snapshots)
        seen.append(record.read(job.folder).points)

    monkeypatch.setattr(type(job.progress), "points", points)
    settle(jobs, job)
    assert any("2" in points for points in seen)


def test_a_run_that_goes_on_stays_in_its_group(bench):
    from lib_finetune.app.services import services_of

    services = services_of(Jobs(bench.host()))
    job = services.jobs.submit(settings(bench.images, {"training.steps": "2000"}), group="g")
    while not job.progress.losses:  # of a step: preparing counts images as done
        time.sleep(0.01)
    job.control.stop(keep=True)
    settle(services.jobs, job)
    again = services.trainings.resume(job.folder.name)
    assert again.record.group == "g"
    again.control.stop(keep=False)
    settle(services.jobs, again)


def test_one_set_of_services_for_all_that_ask_at_once(bench):
    from concurrent.futures import ThreadPoolExecutor

    from lib_finetune.access import Folders
    from lib_finetune.app.services import services

    def make():
        time.sleep(0.05)
        return bench.host()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: services("together", make, Folders), range(4)))
    assert all(one is found[0] for one in found)
