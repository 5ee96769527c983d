"""The worker of a queue: one thread that does background tasks and jobs in turn, and survives all their errors."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lib_finetune.errors import DeviceLostError, FinetuneError, denied_in_words, device_loss
from lib_finetune.jobs.asked_room import AskedRoom
from lib_finetune.jobs.folder_lock import run_lock
from lib_finetune.jobs.states import DISCARDED, DONE, FAILED, INTERRUPTED
from lib_finetune.runs.folder import RunFolder
from lib_finetune.runs.result import Result
from lib_finetune.runs.runner import Runner

if TYPE_CHECKING:
    from pathlib import Path

    from lib_finetune.jobs.background_task import BackgroundTask
    from lib_finetune.jobs.job import Job
    from lib_finetune.ports.host import Host

_log = logging.getLogger(__name__)
_REST_S = 1.0


class Worker:
    """Works for one queue.

    Attributes:
        lost_reason: the driver's message when the GPU is lost, after which nothing more begins; "" while the GPU answers.
    """

    def __init__(self, host: Host, next_work: Callable[[], Job | BackgroundTask]) -> None:
        """
        Args:
            next_work: waits for the next job or task to do; a job is marked as running already.
        """
        self._host = host
        self._next_work = next_work
        self._thread: threading.Thread | None = None
        self._listeners: list[Callable[[Job], None]] = []
        self.lost_reason = ""

    def start(self) -> None:
        """Start the thread unless it runs. Call under the lock of the queue, so that there is only one."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="finetune", daemon=True)
            self._thread.start()

    def when_ended(self, listener: Callable[[Job], None]) -> None:
        """Call a listener for each job that ends, in the worker's thread; a failing listener is logged."""
        self._listeners.append(listener)

    def end(self, job: Job, state: str, message: str) -> None:
        """Do everything at the end of a job; each part runs even if another one fails."""
        job.record.ended, job.record.message, job.message = time.time(), message, message
        with _logged("The list of files"):
            job.record.keep_points(job.snapshots)
        with _logged("The memory's peak"):
            job.record.peak = self._peak()
        job.record.state = state
        with _logged("The record"):
            job.record.save(job.folder)
        job.state = state  # last, so that the record exists once the job shows as ended
        for listener in self._listeners:
            with _logged(f"What was to follow the job {job.folder.name}"):
                listener(job)

    def _work(self) -> None:
        while True:
            try:
                self._do(self._next_work())
            except BaseException:  # noqa: BLE001  an edge: logged
                _log.exception("The worker stumbled")
                time.sleep(_REST_S)  # the same error may come again at once

    def _do(self, work: Job | BackgroundTask) -> None:
        from lib_finetune.jobs.background_task import BackgroundTask

        if not isinstance(work, BackgroundTask):
            self._execute(work)
        elif self.lost_reason:
            work.refuse(str(DeviceLostError(self.lost_reason)))
        else:
            work.run()
            self._lose(work.lost_reason)

    def _execute(self, job: Job) -> None:
        runner: Runner | None = None
        try:
            job.record.started, job.record.state = time.time(), job.state
            job.record.save(job.folder)
            if job.control.stop_asked():
                self.end(job, DISCARDED, "Stopped before it began.")
                return
            runner = Runner(job.settings, self._host, job.folder, job.progress, job.control, AskedRoom(job.control, job.progress))
            with run_lock(job.folder):
                result = runner.execute()
            job.keep_result(result.files, result.steps)
            if job.control.suspended and result.file is None:
                self.end(job, INTERRUPTED, interrupted_message(job.folder, "The program was ended while this ran."))
            else:
                self.end(job, result.outcome, _ending(result))
        except BaseException as error:  # noqa: BLE001  an edge: shown or logged; SystemExit of a library is no end of ours
            self._fail(job, runner, error)

    def _fail(self, job: Job, runner: Runner | None, error: BaseException) -> None:
        message = "An unexpected error. The console has the details."
        with _logged("The account of what went wrong"):
            if runner is not None and runner.rescued is not None:
                steps, files = runner.rescued
                job.keep_result(files, steps)
            message = self._words_of(job, error)
            job.progress.say(message)
        self.end(job, FAILED, message)

    def _words_of(self, job: Job, error: BaseException) -> str:
        if reason := device_loss(error):
            self._lose(reason)
            resumes = RunFolder(job.folder).resumes()
            return f"{DeviceLostError(reason)} " + (
                "The run can be resumed from its last saved state." if resumes else "It had saved no state yet."
            )
        if isinstance(error, FinetuneError):
            return str(error)
        _log.error("The job %s failed", job.folder.name, exc_info=error)
        if denied := denied_in_words(error):
            return denied
        _write_traceback(job, error)
        return f"An unexpected error: {error!r}. The details are in {RunFolder(job.folder).traceback}."

    def _lose(self, reason: str) -> None:
        """If the GPU is lost, let nothing more begin; ``reason`` is "" if it is not."""
        self.lost_reason = self.lost_reason or reason

    def _peak(self) -> int:
        """The device's memory in bytes; 0 if it does not tell. A GPU that was lost without an error is noticed here."""
        try:
            return self._host.memory().peak
        except RuntimeError as error:
            self._lose(device_loss(error))
            _log.warning("The device does not tell its memory: %s", error)
            return 0


def interrupted_message(folder: Path, what: str) -> str:
    """``what`` and a sentence on whether the interrupted run can be resumed."""
    return f"{what} " + ("It can be resumed from its last saved state." if RunFolder(folder).resumes() else "It had saved no state yet.")


def _write_traceback(job: Job, error: BaseException) -> None:
    path = RunFolder(job.folder).traceback
    try:
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="backslashreplace")
    except OSError:
        _log.warning("The traceback could not be written to %s", path)


@contextmanager
def _logged(what: str) -> Iterator[None]:
    """An edge: an error inside is logged, and the caller continues."""
    try:
        yield
    except BaseException:  # noqa: BLE001  an edge: logged
        _log.exception("%s failed", what)


def _ending(result: Result) -> str:
    if result.file is None:
        return "Stopped; no file was written."
    outcome = "Done" if result.outcome == DONE else "Stopped"
    warning = f"{result.warning} " if result.warning else ""
    changed = result.restoration.line if result.restoration.differences else ""  # that all is as it was stands in the log
    return f"{outcome}: {result.file.name}, {result.steps} steps. {warning}{changed}".rstrip()
