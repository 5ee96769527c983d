"""The end of a job when things go wrong: the first error is told, the runner lives on, and a card that is lost holds the queue."""

import json
import logging
import threading
import time

import pytest
import torch

from lib_finetune.app.about import about as about_host
from lib_finetune.app.services import services_of
from lib_finetune.errors import DeviceLostError, HostError, WeightsChangedError, device_loss
from lib_finetune.jobs import record
from lib_finetune.jobs.job import Job
from lib_finetune.jobs.progress import JobProgress
from lib_finetune.jobs.queue import Jobs
from lib_finetune.runs.folder import STATE, RunFolder
from lib_finetune.runs.runner import Runner
from lib_finetune.training.methods.lora import LoraMethod
from tests.fakes.runs import Bench, settings

LOST = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously reported"


class AcceleratorError(RuntimeError):
    """As newer torch has it."""


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def settle(*jobs, seconds=60):
    until = time.monotonic() + seconds
    while not all(job.ended for job in jobs) and time.monotonic() < until:
        time.sleep(0.02)
    return [job.state for job in jobs]


def broken_at(patch, step, error):
    """Training raises at a step."""
    real, calls = LoraMethod.loss, []

    def loss(self, batch, generator):
        calls.append(1)
        if len(calls) >= step:
            raise error
        return real(self, batch, generator)

    patch.setattr(LoraMethod, "loss", loss)


def refusing(error):
    def refuse(*_, **__):
        raise error

    return refuse


# -- what is a lost card -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        LOST,
        "CUDA error: device-side assert triggered",
        "CUDA error: unspecified launch failure",
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(...)`",
        "CUDA driver error: unknown error",
        "HIP error: an illegal memory access was encountered",
        "CUDA error: uncorrectable ECC error encountered",
    ],
)
def test_sticky_errors_of_the_card_are_known(said):
    assert device_loss(RuntimeError(said)) == said.split("\n")[0]
    assert device_loss(HostError(f"The WebUI could not make the preview image: {said}"))


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: no kernel image is available for execution on the device"),
        RuntimeError("boom"),
        ValueError("CUDA error"),
        HostError("the model is gone"),
        MemoryError(),
        None,
    ],
)
def test_other_errors_are_not_taken_for_a_lost_card(error):
    assert device_loss(error) == ""


def test_the_error_class_of_newer_torch_is_known_whatever_it_says():
    assert device_loss(AcceleratorError("the accelerator has failed")) == "the accelerator has failed"
    assert device_loss(AcceleratorError("CUDA error: out of memory")) == ""


def test_a_lost_card_is_seen_behind_what_it_caused():
    try:
        try:
            raise RuntimeError(LOST)
        finally:
            {}["gone"]
    except KeyError as error:
        seen = device_loss(error)
    assert seen.startswith("CUDA error: an illegal")


# -- the run -------------------------------------------------------------------------------------------------------


def failing_run(bench, host, changes=None):
    made = settings(bench.images, {"training.steps": "8", **(changes or {})})
    job = Job(made, host.paths.data / "runs" / "run")
    return Runner(made, host, job.folder, job.progress, job.control), job


def test_a_failing_rescue_does_not_hide_the_first_error(bench, monkeypatch):
    broken_at(monkeypatch, 3, RuntimeError("boom"))
    monkeypatch.setattr("lib_finetune.runs.saved_states.state.save", refusing(ValueError("no rescue")))
    run, job = failing_run(bench, bench.host())
    with pytest.raises(RuntimeError, match="boom"):
        run.execute()
    assert any("no rescue" in line for line in job.progress.lines)


def test_a_failing_rescue_of_a_diverged_run_does_not_hide_that_it_diverged(bench, monkeypatch):
    from lib_finetune.errors import DivergedError, SaveError
    from lib_finetune.runs.artifacts import Artifacts

    real, calls = LoraMethod.loss, []

    def loss(self, batch, generator):
        calls.append(1)
        value, report = real(self, batch, generator)
        return (value * float("nan") if len(calls) > 12 else value), report

    monkeypatch.setattr(LoraMethod, "loss", loss)
    monkeypatch.setattr(Artifacts, "write_result", refusing(SaveError("the disk is full")))
    run, job = failing_run(bench, bench.host(), {"training.steps": "30"})
    with pytest.raises(DivergedError):
        run.execute()
    assert any("the disk is full" in line for line in job.progress.lines)


@pytest.mark.parametrize("place", ["restoration", "close", "tidy"])
def test_a_failing_give_back_does_not_hide_the_first_error(bench, monkeypatch, place):
    broken_at(monkeypatch, 3, RuntimeError("boom"))
    host = bench.host()
    if place == "restoration":
        host.faults["restoration"] = (0, HostError("no restoration"))
    else:
        owner = {"close": "lib_finetune.assembly.builder.Assembly.close", "tidy": "lib_finetune.runs.runner.tidy"}[place]
        monkeypatch.setattr(owner, refusing(HostError("no restoration")))
    run, job = failing_run(bench, host)
    with pytest.raises(RuntimeError, match="boom"):
        run.execute()
    assert any("no restoration" in line for line in job.progress.lines)


def test_a_lost_card_is_said_in_words_and_its_last_saved_state_is_kept(bench, monkeypatch):
    broken_at(monkeypatch, 6, RuntimeError(LOST))
    host = bench.host()
    run, job = failing_run(bench, host, {"saving.state_every": "4"})
    with pytest.raises(DeviceLostError, match="restarted") as caught:
        run.execute()
    assert "illegal memory access" in str(caught.value)
    from lib_finetune.training import state

    assert state.outline(job.folder / STATE)["trainer"]["step"] == 4  # not 5: nothing is read from a card that is lost


# -- the runner ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["memory", "restoration", "save", "listener", "say"])
@pytest.mark.parametrize("error", [RuntimeError("CUDA error: unspecified launch failure"), SystemExit(1), ValueError("no")])
def test_whatever_fails_at_the_end_of_a_job_it_has_ended(bench, monkeypatch, place, error):
    host = bench.host()
    jobs = Jobs(host)
    broken_at(monkeypatch, 2, ValueError("the first error"))
    if place == "listener":
        jobs.when_ended(refusing(error))
    elif place == "save":
        real = record.Record.save
        monkeypatch.setattr(record.Record, "save", lambda self, folder: refusing(error)() if self.ended else real(self, folder))
    elif place == "say":
        real_say = JobProgress.say
        monkeypatch.setattr(JobProgress, "say", lambda self, said: refusing(error)() if "first error" in said else real_say(self, said))
    else:
        monkeypatch.setattr(host, place, refusing(error))
    job = jobs.submit(settings(bench.images))
    assert settle(job) == ["failed"]
    assert place == "memory" or "the first error" in job.message  # the figures of a run are a part of it
    monkeypatch.undo()
    jobs._worker.lost_reason, jobs.held = "", False
    jobs.go()
    assert settle(jobs.submit(settings(bench.images, {"name": "next"}))) == ["done"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), RuntimeError("boom")])
def test_the_runner_outlives_what_a_job_or_an_errand_raises(bench, monkeypatch, error):
    jobs = Jobs(bench.host())
    errand = jobs.tasks.add("bad", refusing(error))
    with monkeypatch.context() as patched:
        broken_at(patched, 2, error)
        job = jobs.submit(settings(bench.images))
        assert settle(job) == ["failed"] and repr(error) in job.message
    assert errand.state == "failed" and errand.message
    thread = jobs._worker._thread
    assert (
        thread.is_alive() and settle(jobs.submit(settings(bench.images, {"name": "next"}))) == ["done"] and jobs._worker._thread is thread
    )


def test_a_run_that_cannot_even_be_made_fails(bench, monkeypatch):
    jobs = Jobs(bench.host())
    jobs.hold()
    job = jobs.submit(settings(bench.images))
    monkeypatch.setattr("lib_finetune.jobs.worker.Runner", refusing(PermissionError("no")))
    jobs.go()
    assert settle(job) == ["failed"]


def test_words_that_no_file_can_hold_end_nothing(bench, monkeypatch):
    monkeypatch.setattr(logging.getLogger("lib_finetune"), "propagate", False)  # nor can the report of parallel tests hold them
    jobs = Jobs(bench.host())
    broken_at(monkeypatch, 2, ValueError("an image called \udcff"))  # as Linux gives names that are not UTF-8
    job = jobs.submit(settings(bench.images))
    assert settle(job) == ["failed"] and (job.folder / "traceback.txt").is_file()


def test_a_result_whose_end_fails_is_not_forgotten(bench):
    host = bench.host()
    host.faults["restoration"] = (0, HostError("the model is gone"))
    job = Jobs(host).submit(settings(bench.images))
    assert settle(job) == ["failed"] and job.file is not None and job.file.is_file()
    assert job.record.steps == 4 and record.read(job.folder).files == {"lora": str(job.file)}


def lost(bench, monkeypatch, changes=None):
    """A queue whose first job has lost the card."""
    jobs = Jobs(bench.host())
    jobs.hold()
    first = jobs.submit(settings(bench.images, {"training.steps": "8", "saving.state_every": "4", **(changes or {})}))
    second = jobs.submit(settings(bench.images, {"name": "second"}))
    with monkeypatch.context() as patched:
        broken_at(patched, 6, RuntimeError(LOST))
        jobs.go()
        assert settle(first) == ["failed"]
    return jobs, first, second


def test_a_lost_card_holds_the_queue_and_says_why(bench, monkeypatch):
    jobs, first, second = lost(bench, monkeypatch)
    assert "restarted" in first.message and "be resumed from its last saved state" in first.message
    time.sleep(0.3)
    assert second.state == "queued" and "restarted" in jobs.lost
    third = jobs.submit(settings(bench.images, {"name": "third"}))
    errand = jobs.tasks.add("sheet", lambda _: {"worked": True})
    with pytest.raises(DeviceLostError, match="restarted"):
        jobs.go()
    until = time.monotonic() + 10
    while not errand.ended and time.monotonic() < until:
        time.sleep(0.02)
    assert errand.state == "failed" and "restarted" in errand.message and not errand.result
    assert third.state == "queued" and "restarted" in third.message and jobs.known.current() is not None
    jobs.cancel(second.folder.name)
    assert second.state == "discarded"


def test_after_the_restart_the_jobs_are_there_and_the_lost_one_can_go_on(bench, monkeypatch):
    _, first, _ = lost(bench, monkeypatch)
    again = services_of(Jobs(bench.host()))
    assert again.jobs.lost == "" and [job.settings.name for job in again.jobs.known.waiting()] == ["second"]
    assert again.trainings.unfinished() == [first.folder.name]
    again.trainings.resume(first.folder.name)
    again.jobs.go()
    assert settle(*again.jobs.known.all()) == ["done", "done"]


def test_an_errand_that_loses_the_card_holds_the_queue_too(bench):
    jobs = Jobs(bench.host())
    errand = jobs.tasks.add("sheet", refusing(RuntimeError(LOST)))
    job = jobs.submit(settings(bench.images))
    until = time.monotonic() + 10
    while not errand.ended and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.3)
    assert "restarted" in errand.message and jobs.lost and job.state == "queued"


def test_a_card_that_is_lost_after_the_result_holds_the_queue(bench, monkeypatch):
    host = bench.host()
    jobs = Jobs(host)
    real = host.restoration

    def restoration():
        host.memory = refusing(RuntimeError(LOST))
        return real()

    host.restoration = restoration
    job = jobs.submit(settings(bench.images))
    assert settle(job) == ["done"] and jobs.lost


def test_the_services_tell_a_lost_card_and_answers_all_else(bench, monkeypatch):
    jobs, _, _ = lost(bench, monkeypatch)
    services = services_of(jobs)
    jobs.host.memory = refusing(RuntimeError(LOST))
    about, overview = about_host(services.host, jobs.lost), services.trainings.overview()
    assert any("restarted" in reason for reason in about["refusals"]) and about["memory"]["total"] == 0
    assert "restarted" in overview["lost"]
    assert "restarted" in services.advisor.cards(settings(bench.images))["reason"]
    json.dumps([about, overview])


def test_two_threads_that_submit_at_once_keep_one_runner(bench):
    jobs = Jobs(bench.host())
    threads = [threading.Thread(target=jobs.tasks.add, args=(str(number), lambda _: {})) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(thread.name == "finetune" and thread is jobs._worker._thread for thread in threading.enumerate()) == 1


@pytest.mark.parametrize("in_training", [True, False])
def test_what_was_learned_against_changed_weights_is_not_kept(bench, monkeypatch, in_training):
    """An image spoils only the model: what was learned before it is right."""
    jobs = Jobs(bench.host())
    broken_at(monkeypatch, 3, WeightsChangedError("a weight", in_training=in_training))
    job = jobs.submit(settings(bench.images, {"training.steps": "8"}))
    assert settle(job) == ["failed"] and RunFolder(job.folder).resumes() != in_training
