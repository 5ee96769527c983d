"""Jobs: runs in a thread of their own, one after another, whose status can be asked from anywhere; they outlive the page."""

from __future__ import annotations

import logging
import math
import shutil
import threading
import time
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lib_finetune.assembly.artifact_kinds import artifact_kinds_of
from lib_finetune.config import codec
from lib_finetune.config.fields import value_at
from lib_finetune.config.settings import METHODS, Settings
from lib_finetune.errors import DeviceLostError, InputError, Problem, SaveError
from lib_finetune.files import same_name, standing
from lib_finetune.jobs import record as records
from lib_finetune.jobs.background_task import WAITS, BackgroundTask
from lib_finetune.jobs.folder_lock import FolderLock, run_lock
from lib_finetune.jobs.job import Job, damaged, revived
from lib_finetune.jobs.states import ACTIVE, DAMAGED, DISCARDED, QUEUED, RUNNING
from lib_finetune.jobs.worker import Worker
from lib_finetune.ports.host import Host
from lib_finetune.preflight.problems import checked_dataset
from lib_finetune.preflight.teaching import warnings
from lib_finetune.runs.folder import RunFolder

_log = logging.getLogger(__name__)
_TASKS_KEPT = 50
_MOST_NAME_BYTES = 120
"""Of a folder's name, beside its time: file systems take 255."""
_TAKEN = "another program trains with it: a second WebUI or a page of Finetune. End it, or start this one with another data folder."


class Jobs:
    """The jobs of one host: taken in order, kept, and found again after a restart of the program. Any thread.

    It has more than fifteen methods because all of them act on one list under one lock.
    """

    def __init__(self, host: Host) -> None:
        """
        Raises:
            InUseError: another program works in the host's folder.
            DependencyError: filelock is missing.
        """
        self._lock = FolderLock(host.paths.data, _TAKEN)
        self.host = host
        self._jobs: list[Job] = restored(host)
        self._tasks: list[BackgroundTask] = []
        self._wake = threading.Condition()
        self._worker = Worker(host, self._next_work)
        self.held = any(job.state == QUEUED for job in self._jobs)
        """Jobs that waited when the program ended do not begin by themselves: who starts the WebUI may want to make pictures."""

    # -- asking ----------------------------------------------------------------------------------------------------

    def submit(self, settings: Settings, folder: Path | None = None, group: str = "") -> Job:
        """Check the input and queue a run.

        Args:
            folder: of a run to continue; None starts a new one.
            group: of jobs that will be compared.

        Raises:
            InputError: everything that is wrong with the input; nothing was queued.
            SaveError: the folder of the job cannot be written.
            InUseError: another program works on the run that is to be continued.
        """
        if folder is not None:
            with run_lock(folder):
                return self._submit(settings, folder, group)
        self.check(settings)
        place = make_folder(self.host.paths.data, settings.name)
        try:
            with run_lock(place):  # until it is listed, so that nobody tidies it away
                return self._submit(settings, place, group)
        except BaseException:  # what was refused leaves no folder
            shutil.rmtree(place, ignore_errors=True)
            raise

    def _submit(self, settings: Settings, folder: Path, group: str) -> Job:
        self.check(settings, resuming=RunFolder(folder).resumes())
        job = Job(settings, folder)
        with self._wake:
            unended = [other for other in self._jobs if not other.ended]
            if any(self._same_name(other, settings.name) for other in unended):
                raise InputError(f"A job with the name {settings.name} is running or waits already. Give this one another name.")
            if any(other.folder == folder for other in unended):
                raise InputError([Problem("id", f"{folder.name} is running or waits already.")])
            job.record.group, job.record.created = group, time.time()
            job.record.place = 1 + max((other.record.place for other in self._jobs), default=0.0)
            job.message = self.lost
            _keep(job, settings_too=True)
            self._jobs = [*(other for other in self._jobs if other.folder != folder), job]
            self._wake_worker()
        return job

    def check(self, settings: Settings, resuming: bool = False) -> list[str]:
        """Look for everything that can be wrong, without starting; returns what a person should know of besides.

        Raises:
            InputError: with all problems.
        """
        return warnings(settings, checked_dataset(settings, self.host, resuming))

    def run_in_background(self, kind: str, work: Callable[[BackgroundTask], Mapping[str, Any]], about: str = "") -> BackgroundTask:
        """Queue a short piece of work; it is done before the next job begins."""
        task = BackgroundTask(kind, work, about)
        with self._wake:
            self._tasks = [*self._tasks[-_TASKS_KEPT:], task]
            self._wake_worker()
        return task

    def when_ended(self, listener: Callable[[Job], None]) -> None:
        """See `Worker.when_ended`."""
        self._worker.when_ended(listener)

    @property
    def lost(self) -> str:
        """Why nothing can begin until the program is started again, in words; "" while the device answers."""
        return str(DeviceLostError(self._worker.lost_reason)) if self._worker.lost_reason else ""

    def _wake_worker(self) -> None:
        self._worker.start()
        self._wake.notify()

    # -- looking ---------------------------------------------------------------------------------------------------

    def all(self) -> list[Job]:
        """All jobs that are known, in the order of their places."""
        with self._wake:
            return sorted(self._jobs, key=lambda job: job.record.place)

    def queue(self) -> list[Job]:
        """Those that wait, next first."""
        return [job for job in self.all() if job.state == QUEUED]

    def ahead_of(self, job: Job) -> int:
        """How many jobs run or wait before this one."""
        return sum(not other.ended and other is not job and other.record.place < job.record.place for other in self.all())

    def tasks(self) -> list[BackgroundTask]:
        """Of this session, oldest first."""
        with self._wake:
            return list(self._tasks)

    def find_task(self, name: str) -> BackgroundTask:
        """A background task of this session.

        Raises:
            InputError: there is none of this id.
        """
        for task in self.tasks():
            if task.id == name:
                return task
        raise InputError([Problem("id", f"There is no background task {name!r}.")])

    def find(self, name: str) -> Job:
        """The job whose folder has this name.

        Raises:
            InputError: there is none.
        """
        for job in self.all():
            if job.folder.name == name:
                return job
        raise InputError([Problem("id", f"There is no job {name!r}.")])

    def find_whole(self, name: str) -> Job:
        """As `find`, of a job whose settings are known.

        Raises:
            InputError: there is none, or it is damaged.
        """
        job = self.find(name)
        if job.state == DAMAGED:
            raise InputError([Problem("id", f"{name} is damaged; its settings cannot be read. {job.message}")])
        return job

    def current(self) -> Job | None:
        """The job that runs, else the one that ended last in this session, else the next one, else None."""
        jobs = self.all()
        running = [job for job in jobs if job.state in ACTIVE]
        ended = sorted((job for job in jobs if job.ended and not job.old), key=lambda job: job.record.ended)
        found = running or ended[-1:] or [job for job in jobs if job.state == QUEUED]
        return found[0] if found else None

    # -- the queue -------------------------------------------------------------------------------------------------

    def go(self) -> None:
        """Let jobs begin that were found waiting after a restart, or that `hold` keeps back.

        Raises:
            DeviceLostError: nothing can begin before the program is started again.
        """
        with self._wake:
            if self.lost:
                raise DeviceLostError(self._worker.lost_reason)
            self.held = False
            self._wake_worker()

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
            job, queue = self._waiting(name), self.queue()
            order = [other for other in queue if other is not job]
            ahead = self._waiting(before) if before and before != name else None
            if before == name:
                return
            order.insert(order.index(ahead) if ahead else len(order), job)
            for moved, place in zip(order, sorted(other.record.place for other in queue), strict=True):
                moved.record.place = place
                _keep(moved)

    def edit(self, name: str, settings: Settings) -> None:
        """Other settings for a waiting job.

        Raises:
            InputError: it does not wait, or the settings will not do; then it keeps its own.
        """
        job = self._waiting(name)
        self.check(settings, RunFolder(job.folder).resumes())
        with self._wake:
            if any(other is not job and self._same_name(other, settings.name) and not other.ended for other in self._jobs):
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
        job = self._waiting(name)
        with self._wake:
            if job.state == QUEUED:
                self._worker.end(job, DISCARDED, "Taken out of the queue.")

    def forget(self, name: str) -> None:
        """Delete what is left of a job that has ended: log, saved state, previews; its results stay where they are.

        Raises:
            InputError: it has not ended.
            InUseError: another program goes on with it.
        """
        job = self.find(name)
        if not job.ended:
            raise InputError([Problem("id", f"{job.settings.name} has not ended. Stop it first.")])
        run_lock(job.folder).release()
        with self._wake:
            self._jobs = [other for other in self._jobs if other is not job]
        shutil.rmtree(job.folder, ignore_errors=True)

    def free_name(self, name: str, method: str) -> str:
        """``name``, or with a number behind it where a job or a file has it."""
        unended = [job for job in self.all() if not job.ended]
        found, number = name, 2
        while any(self._same_name(job, found) for job in unended) or any(map(standing, self._targets(found, method))):
            found, number = f"{name}-{number}", number + 1
        return found

    def _same_name(self, job: Job, name: str) -> bool:
        return same_name(job.settings.name, name, self.host.paths.data)

    def _targets(self, name: str, method: str) -> list[Path]:
        settings = replace(Settings(), method=method, name=name)
        return [product.target(self.host.paths, settings, name) for product in artifact_kinds_of(settings)]

    def _waiting(self, name: str) -> Job:
        job = self.find(name)
        if job.state != QUEUED:
            raise InputError([Problem("id", f"{job.settings.name} does not wait in the queue.")])
        return job

    # -- for the worker --------------------------------------------------------------------------------------------

    def _next_work(self) -> Job | BackgroundTask:
        with self._wake:
            while True:
                task = next((task for task in self._tasks if task.state == WAITS), None)
                if task is not None:
                    return task
                waiting = [] if self.held or self.lost else sorted(self._waiting_jobs(), key=lambda job: job.record.place)
                if waiting:
                    waiting[0].state = RUNNING
                    return waiting[0]
                self._wake.wait()

    def _waiting_jobs(self) -> list[Job]:
        return [job for job in self._jobs if job.state == QUEUED]


def _keep(job: Job, *, settings_too: bool = False) -> None:
    """Write the record; the settings where no run has written them yet."""
    job.record.state = job.state
    job.record.save(job.folder)
    if settings_too:
        RunFolder(job.folder).write_settings(job.settings)


def restored(host: Host) -> list[Job]:
    """Jobs that the last program left: results, those that waited, those that it was ended in the middle of, and damaged ones."""
    runs = host.paths.data / "runs"
    folders = sorted(runs.iterdir()) if runs.is_dir() else []
    return [job for job in (_restored_job(folder) for folder in folders) if job is not None]


def _restored_job(folder: Path) -> Job | None:
    """None for a folder without a record: a run of the command line, or nothing of ours."""
    try:
        record = records.read(folder)
        if record is None:
            return None
        return revived(_sound(codec.load(RunFolder(folder).settings_file)), folder, record)
    except InputError as error:
        _log.warning("The job in %s is damaged: %s", folder, error)
        return damaged(folder, f"{error} The folder is {folder}.")


def _sound(settings: Settings) -> Settings:
    """The same settings.

    Raises:
        InputError: of an unknown method, or with a value that is no number.
    """
    if settings.method not in METHODS:
        raise InputError([Problem("method", f"{settings.method!r} is unknown.")])
    for path in codec.all_leaves():
        value = value_at(settings, path)
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError([Problem(path, f"{value} is no number.")])
    return settings


def make_folder(data: Path, name: str) -> Path:
    """Make a folder for a new run, named by time; no two runs share one.

    Raises:
        SaveError: it cannot be made.
    """
    composed = unicodedata.normalize("NFC", name)
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in composed)[:60] or "run"
    safe = safe.encode("utf-8")[:_MOST_NAME_BYTES].decode("utf-8", "ignore")
    base, number = data / "runs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{safe}", 1
    while True:
        folder = base if number == 1 else base.with_name(f"{base.name}-{number}")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except FileExistsError:
            number += 1
        except OSError as error:
            raise SaveError(f"{folder} cannot be made: {error.strerror or error}. Check its permissions and the disk.") from error
        else:
            return folder


def unfinished(host: Host, name: str | None = None) -> list[Path]:
    """Folders of runs that can be resumed, newest first; of one result's name if given."""
    runs = host.paths.data / "runs"
    folders = sorted(runs.iterdir(), reverse=True) if runs.is_dir() else []
    resumable = [(folder, RunFolder(folder).settings()) for folder in folders if RunFolder(folder).resumes()]
    return [folder for folder, settings in resumable if settings is not None and (name is None or same_name(name, settings.name, runs))]
