"""The queue: jobs run in a thread of their own, one after another. Any thread may ask for their status, and they outlive the page."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from lib_finetune.config.settings import Settings
from lib_finetune.errors import DeviceLostError, InputError, OutdatedError, Problem
from lib_finetune.files import same_name
from lib_finetune.jobs import leftovers
from lib_finetune.jobs.background_task import BackgroundTask
from lib_finetune.jobs.folder_lock import FolderLock, run_lock
from lib_finetune.jobs.job import Job
from lib_finetune.jobs.job_list import JobList
from lib_finetune.jobs.restored import restored
from lib_finetune.jobs.run_folders import make_folder
from lib_finetune.jobs.states import DISCARDED, QUEUED, RUNNING
from lib_finetune.jobs.task_list import TaskList
from lib_finetune.jobs.worker import Worker
from lib_finetune.ports.host import Host
from lib_finetune.preflight.problems import checked_dataset
from lib_finetune.preflight.teaching import warnings
from lib_finetune.runs.folder import RunFolder

_POLL_S = 0.1
_TAKEN = "another program trains with it: a second WebUI or a page of Finetune. End it, or start this one with another data folder."


class Jobs:
    """The jobs of one host: taken in order, kept, and found again after a restart of the program. Any thread.

    It has more than fifteen methods because everything that a person asks of the queue comes through it, under one lock.

    Attributes:
        known: all jobs.
        tasks: short pieces of work between two jobs.
        held: whether no further job begins.
    """

    def __init__(self, host: Host, outdated: Callable[[], str] = str) -> None:
        """
        Args:
            outdated: why nothing may begin before the program is started again, in words, or "".

        Raises:
            InUseError: another program works in the host's folder.
            DependencyError: filelock is missing.
        """
        self._lock = FolderLock(host.paths.data, _TAKEN)
        self.host = host
        self._outdated = outdated
        self._wake = threading.Condition()
        leftovers.clear_all(host.paths)
        self.known = JobList(self._wake, restored(host.paths.data))
        self.tasks = TaskList(self._wake, self._wake_worker)
        self._worker = Worker(host, self._next_work)
        # Jobs from before a restart do not begin by themselves, because the person may have started the WebUI to make images.
        self.held = bool(self.known.waiting())

    def submit(self, settings: Settings, folder: Path | None = None, group: str = "") -> Job:
        """Check the input and queue a run.

        Args:
            folder: of a run to continue; None starts a new one.
            group: common to jobs that will be compared.

        Raises:
            InputError: lists everything that is wrong with the input; nothing was queued.
            SaveError: the folder of the job cannot be written.
            InUseError: another program works on the run that is to be continued.
            OutdatedError: the program has to be started again.
        """
        self._check_up_to_date()
        if folder is not None:
            with run_lock(folder):
                return self._submit(settings, folder, group)
        self.check(settings)
        place = make_folder(self.host.paths.data, settings.name)
        try:
            with run_lock(place):  # until the job is listed, so that nobody removes its folder as a leftover
                return self._submit(settings, place, group)
        except BaseException:  # a refused job leaves no folder
            shutil.rmtree(place, ignore_errors=True)
            raise

    def _submit(self, settings: Settings, folder: Path, group: str) -> Job:
        self.check(settings, resuming=RunFolder(folder).resumes())
        job = Job(settings, folder)
        with self._wake:
            unended = self.known.unended()
            if any(self._same_name(other, settings.name) for other in unended):
                raise InputError(f"A job with the name {settings.name} is running or waits already. Give this one another name.")
            if any(other.folder == folder for other in unended):
                raise InputError([Problem("id", f"{folder.name} is running or waits already.")])
            job.record.group, job.record.created = group, time.time()
            job.record.place = self.known.next_place()
            job.message = self.lost
            _keep(job, settings_too=True)
            self.known.add(job)
            self._wake_worker()
        return job

    def check(self, settings: Settings, resuming: bool = False) -> list[str]:
        """Check everything that can be wrong, without starting; returns further sentences for the person.

        Raises:
            InputError: with all problems.
        """
        return warnings(settings, checked_dataset(settings, self.host, resuming))

    def when_ended(self, listener: Callable[[Job], None]) -> None:
        """See `Worker.when_ended`."""
        self._worker.when_ended(listener)

    @property
    def lost(self) -> str:
        """A sentence on why nothing can begin before the program is started again; "" while the device answers."""
        return str(DeviceLostError(self._worker.lost_reason)) if self._worker.lost_reason else ""

    def _wake_worker(self) -> None:
        self._worker.start()
        self._wake.notify()

    def go(self) -> None:
        """Let jobs begin that wait since a restart or because of `hold`.

        Raises:
            DeviceLostError, OutdatedError: nothing can begin before the program is started again.
        """
        self._check_up_to_date()
        with self._wake:
            if self.lost:
                raise DeviceLostError(self._worker.lost_reason)
            self.held = False
            self._wake_worker()

    def _check_up_to_date(self) -> None:
        if why := self._outdated():
            raise OutdatedError(why)

    def hold(self) -> None:
        """Let no further job begin."""
        with self._wake:
            self.held = True

    def move(self, name: str, before: str | None) -> None:
        """Put a waiting job before another one, or last.

        Raises:
            InputError: one of them does not wait.
        """
        with self._wake:
            job, queue = self.known.find_waiting(name), self.known.waiting()
            order = [other for other in queue if other is not job]
            ahead = self.known.find_waiting(before) if before and before != name else None
            if before == name:
                return
            order.insert(order.index(ahead) if ahead else len(order), job)
            for moved, place in zip(order, sorted(other.record.place for other in queue), strict=True):
                moved.record.place = place
                _keep(moved)

    def edit(self, name: str, settings: Settings) -> None:
        """Give a waiting job other settings.

        Raises:
            InputError: it does not wait, or the settings are not usable; then it keeps its own.
        """
        job = self.known.find_waiting(name)
        self.check(settings, RunFolder(job.folder).resumes())
        with self._wake:
            if any(other is not job and self._same_name(other, settings.name) for other in self.known.unended()):
                raise InputError(
                    [Problem("name", f"A job with the name {settings.name} is running or waits already. Choose another name.")]
                )
            if job.state != QUEUED:
                raise InputError([Problem("id", f"{settings.name} has begun meanwhile; its settings stay.")])
            job.settings = settings
            _keep(job, settings_too=True)

    def cancel(self, name: str) -> None:
        """Take a waiting job out of the queue.

        Raises:
            InputError: it does not wait.
        """
        job = self.known.find_waiting(name)
        with self._wake:
            if job.state == QUEUED:
                self._worker.end(job, DISCARDED, "Taken out of the queue.")

    def suspend(self, say: Callable[[str], None]) -> None:
        """The program ends: the job that runs saves its state and is interrupted; those that wait stay in the queue."""
        with self._wake:
            self.held = True
            running = [job for job in self.known.unended() if job.state != QUEUED]
        for job in running:
            say(f"{job.settings.name} is ended after its step and its state saved. Ctrl-C again ends at once.")
            job.control.suspend()
        for job in running:
            while not job.ended:
                time.sleep(_POLL_S)

    def forget(self, name: str) -> None:
        """Delete the log, saved states and previews of a job that has ended; its results stay where they are.

        Raises:
            InputError: it has not ended.
            InUseError: another program resumes it.
        """
        job = self.known.find(name)
        if not job.ended:
            raise InputError([Problem("id", f"{job.settings.name} has not ended. Stop it first.")])
        with run_lock(job.folder):
            leftovers.clear(RunFolder(job.folder), self.host.paths)
        with self._wake:
            self.known.remove(job)
        shutil.rmtree(job.folder, ignore_errors=True)

    def _same_name(self, job: Job, name: str) -> bool:
        return same_name(job.settings.name, name, self.host.paths.data)

    def _next_work(self) -> Job | BackgroundTask:
        with self._wake:
            while True:
                if task := self.tasks.next():
                    return task
                if not self.held and not self.lost and (waiting := self.known.waiting()):
                    waiting[0].state = RUNNING
                    return waiting[0]
                self._wake.wait()


def _keep(job: Job, *, settings_too: bool = False) -> None:
    """Write the record, and the settings if no run has written them yet."""
    job.record.state = job.state
    job.record.save(job.folder)
    if settings_too:
        RunFolder(job.folder).write_settings(job.settings)
