"""A full disk does not lose a training: it is checked before the start, waited on where something must be written, and said."""

import logging
import shutil
import time

import pytest

from lib_finetune.assembly import builder, dataset
from lib_finetune.cli import train_on
from lib_finetune.errors import InputError, SaveError
from lib_finetune.estimates import method_costs
from lib_finetune.jobs.queue import Jobs
from lib_finetune.runs import room
from lib_finetune.runs.folder import STATE
from tests.fakes.full_disk import FullDisk
from tests.fakes.host import Recorder
from tests.fakes.runs import Bench, same, settings, tensors

METHODS = {
    "lora": {},
    "word": {"method": "textual_inversion", "embedding.vectors": "2", "name": "zxqcat"},
    "pivot": {"method": "pivotal_tuning", "embedding.until": "1", "embedding.vectors": "2", "name": "zxqcat"},
    "whole": {"method": "dreambooth", "data.trigger": "sks"},
}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def until(true, seconds=100):
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert true()


def among_results(path):
    return ".finetune" not in path.parts


@pytest.mark.parametrize("method", list(METHODS))
def test_too_little_disk_is_said_before_the_start_whatever_the_method(bench, monkeypatch, method):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10))
    host, recorder = bench.host(), Recorder()
    with pytest.raises(InputError, match=r"Too little disk: .* are needed on the disk of .*the saved states"):
        bench.run(METHODS[method], host=host, recorder=recorder)
    assert not recorder.losses


MORE = {"saving.every_steps": "1", "saving.states": "all", "training.ema_decay": "0.9"}


@pytest.mark.parametrize("more", [{}, MORE], ids=["plain", "more"])
@pytest.mark.parametrize("method", list(METHODS))
def test_the_card_of_a_method_names_the_disk_that_the_check_demands(bench, monkeypatch, method, more):
    images = {"data.class_count": "3", "data.class_word": "cat"} if more and method in ("lora", "whole") else {}
    changes, host = {**METHODS[method], **more, **images}, bench.host()
    chosen = settings(bench.images, changes)
    epoch = builder.data_plan(chosen, dataset.find(chosen)).epoch
    card = method_costs.card(chosen, epoch, method_costs.model_facts(host), method_costs.machine_of(host))
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda place: real(place)._replace(free=card.disk_bytes - 1))
    with pytest.raises(InputError, match="Too little disk"):
        bench.run(changes, host=host)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: real(place)._replace(free=card.disk_bytes))
    assert bench.run(changes, host=host, folder="fits")[0].outcome == "done"


def test_class_pictures_count_on_the_disk(bench, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10))
    with pytest.raises(InputError, match="the class images"):
        bench.run({"data.class_count": "3"})


def test_a_run_that_goes_on_needs_room_for_what_it_has_not_written_yet(bench, monkeypatch):
    host = bench.host()
    bench.run({"saving.state_every": "1"}, host=host, recorder=Recorder(stop_at=2, discard=True))
    state = (host.paths.data / "runs" / "run" / STATE).stat().st_size
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda place: real(place)._replace(free=10))
    with pytest.raises(InputError, match="Too little disk"):
        bench.run({"saving.state_every": "1"}, host=host)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: real(place)._replace(free=3 * state))
    assert bench.run({"saving.state_every": "1"}, host=host)[0].outcome == "done"


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("after", [0, 100])
def test_a_result_that_finds_no_room_waits_in_memory_until_resume(bench, monkeypatch, method, after):
    straight = bench.run(METHODS[method], host=bench.host("straight"))[0]
    jobs = Jobs(bench.host())
    disk = FullDisk(monkeypatch, among_results, after)
    job = jobs.submit(settings(bench.images, METHODS[method]))
    until(lambda: job.state == "paused")
    assert any("No space left" in line and "are needed there" in line and "Resume" in line for line in job.progress.lines)
    assert not list(bench.root.rglob("*.part"))
    tried = len(disk.refused)
    job.control.resume()
    until(lambda: len(disk.refused) > tried and job.state == "paused")  # still full: it waits on
    disk.full = False
    job.control.resume()
    until(lambda: job.ended)
    assert job.state == "done" and same(tensors(job.file), tensors(straight.file))


@pytest.mark.parametrize("stopped_before", [False, True])
def test_stop_gives_the_result_up_and_keeps_the_state(bench, monkeypatch, stopped_before):
    jobs = Jobs(bench.host())
    FullDisk(monkeypatch, among_results)
    job = jobs.submit(settings(bench.images, {"training.steps": "100" if stopped_before else "4", "saving.states": "none"}))
    if stopped_before:
        until(lambda: job.progress.losses)
        job.control.stop(keep=True)
    until(lambda: job.state == "paused")
    job.control.stop(keep=True)
    until(lambda: job.ended)
    assert job.state == "failed" and "No space left" in job.message and "tried" in job.message
    assert (job.folder / STATE).is_file() or (job.folder / "state-next.safetensors").is_file()


def test_states_that_find_no_room_are_waited_on_once_and_said_once(bench, monkeypatch):
    jobs = Jobs(bench.host())
    disk = FullDisk(monkeypatch, lambda path: "state" in path.name)
    job = jobs.submit(settings(bench.images, {"training.steps": "6", "saving.state_every": "1"}))
    until(lambda: job.state == "paused")
    job.control.resume()
    until(lambda: job.ended)
    lines = "\n".join(job.progress.lines)
    assert job.state == "done" and lines.count("was not saved") == 1 and lines.count("continues without") == 1
    assert len(disk.refused) > 3  # each is tried


def test_a_state_is_saved_after_resume_when_there_is_room(bench, monkeypatch):
    jobs = Jobs(bench.host())
    disk = FullDisk(monkeypatch, lambda path: "state" in path.name)
    job = jobs.submit(settings(bench.images, {"training.steps": "6", "saving.state_every": "3"}))
    until(lambda: job.state == "paused")
    disk.full = False
    job.control.resume()
    until(lambda: job.ended)
    assert any("The state of step 3 is saved now" in line for line in job.progress.lines)


def test_class_pictures_wait_for_room(bench, monkeypatch):
    jobs = Jobs(bench.host())
    disk = FullDisk(monkeypatch, lambda path: "classes" in path.parts)
    job = jobs.submit(settings(bench.images, {"data.class_count": "2", "objective.prior": "pictures"}))
    until(lambda: job.state == "paused")
    disk.full = False
    job.control.resume()
    until(lambda: job.ended)
    assert job.state == "done"


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(room, "WAIT_S", 1.2)
    monkeypatch.setattr(room, "POLL_S", 0.1)
    monkeypatch.setattr(room, "_ANYWAY_S", 0.3)


def test_the_command_line_waits_for_room_and_goes_on(bench, monkeypatch):
    disk, free = FullDisk(monkeypatch, among_results), iter(range(100))
    monkeypatch.setattr(room, "_free", lambda _: next(free))  # each look finds more room than the one before
    monkeypatch.setattr(room, "POLL_S", 0.01)
    monkeypatch.setattr(
        room.WaitMinutes, "again", lambda *args, real=room.WaitMinutes.again: (real(*args), setattr(disk, "full", len(disk.refused) < 2))[0]
    )
    result = train_on(bench.host(), settings(bench.images))
    assert result.outcome == "done" and result.file.is_file() and len(disk.refused) == 2


def test_the_command_line_tells_what_was_tried_and_keeps_the_state(bench, monkeypatch, soon, capsys):
    disk, host = FullDisk(monkeypatch, among_results), bench.host()
    with pytest.raises(SaveError, match=r"It was tried \d+ times in 0 minutes and given up"):
        train_on(host, settings(bench.images))
    assert len(disk.refused) >= 3 and capsys.readouterr().out.count("stays in memory") == 1
    disk.full = False
    assert train_on(host, settings(bench.images), resume=True).outcome == "done"


@pytest.mark.parametrize("end", [".json", ".png"])
@pytest.mark.parametrize("fault", ["full", "folder"])
def test_a_card_or_picture_that_cannot_be_written_fails_no_run(bench, monkeypatch, caplog, end, fault):
    host = bench.host()
    if fault == "full":
        FullDisk(monkeypatch, lambda path: among_results(path) and end in path.name)
    else:
        (host.paths.lora / f"cat{end}" / "in the way").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        result, recorder, _ = bench.run({"preview.enabled": "true"}, host=host)
    assert result.outcome == "done" and any(f"cat{end} could not be written" in line for line in recorder.lines)
    assert not any(record.exc_info for record in caplog.records)
