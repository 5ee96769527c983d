"""Jobs: runs in a thread of their own, one after another, whose status can be asked from anywhere; they outlive the page."""

from __future__ import annotations

import logging
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lib_finetune.assembly.artifact_kinds import artifact_kinds_of
from lib_finetune.config.settings import Settings
from lib_finetune.errors import FinetuneError, InputError, Problem
from lib_finetune.jobs import record as records
from lib_finetune.jobs.background_task import WAITS, Errand
from lib_finetune.jobs.job import Job, revived
from lib_finetune.jobs.states import ACTIVE, DISCARDED, DONE, FAILED, QUEUED, RUNNING
from lib_finetune.ports.host import Host
from lib_finetune.preflight.problems import problems
from lib_finetune.runs.folder import RunFolder
from lib_finetune.runs.runner import Result, Runner

_log = logging.getLogger(__name__)
_ERRANDS_KEPT = 50


class Jobs:
    """The runner of one host: takes jobs in order, keeps them, and finds them again after a restart of the program."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._jobs: list[Job] = restored(host)
        self._errands: list[Errand] = []
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._listeners: list[Callable[[Job], None]] = []
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
        """
        place = folder or new_folder(self.host, settings.name)
        job = self.check(settings, place)
        with self._wake:
            if any(other.settings.name == settings.name and not other.ended for other in self._jobs):
                raise InputError(f"A job with the name {settings.name} is running or waits already. Give this one another name.")
            self._jobs = [other for other in self._jobs if other.folder != place]
            job.record.group, job.record.created = group, time.time()
            job.record.place = 1 + max((other.record.place for other in self._jobs), default=0.0)
            self._jobs.append(job)
            self._keep(job, settings_too=True)
            self._start()
        return job

    def check(self, settings: Settings, folder: Path | None = None) -> Job:
        """Look for everything that can be wrong, without starting; returns a job that could be queued.

        Raises:
            InputError: with all problems.
        """
        job = Job(settings, folder or new_folder(self.host, settings.name))
        if obstacles := problems(settings, self.host, RunFolder(job.folder).resumes()):
            raise InputError(obstacles)
        return job

    def errand(self, kind: str, work: Callable[[Errand], Mapping[str, Any]], about: str = "") -> Errand:
        """Queue a short piece of work; it is done before the next job begins."""
        errand = Errand(kind, work, about)
        with self._wake:
            self._errands = [*self._errands[-_ERRANDS_KEPT:], errand]
            self._start()
        return errand

    def when_ended(self, listener: Callable[[Job], None]) -> None:
        """Have a listener told of each job that ends, in the runner's thread; one that fails is logged."""
        self._listeners.append(listener)

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="finetune", daemon=True)
            self._thread.start()
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

    def errands(self) -> list[Errand]:
        """Of this session, oldest first."""
        with self._wake:
            return list(self._errands)

    def find_errand(self, name: str) -> Errand:
        """A background task of this session.

        Raises:
            InputError: there is none of this id.
        """
        for errand in self.errands():
            if errand.id == name:
                return errand
        raise InputError([Problem("id", f"There is no errand {name!r}.")])

    def find(self, name: str) -> Job:
        """The job whose folder has this name.

        Raises:
            InputError: there is none.
        """
        for job in self.all():
            if job.folder.name == name:
                return job
        raise InputError([Problem("id", f"There is no job {name!r}.")])

    def current(self) -> Job | None:
        """The job that runs, else the one that ended last in this session, else the next one, else None."""
        jobs = self.all()
        running = [job for job in jobs if job.state in ACTIVE]
        ended = sorted((job for job in jobs if job.ended and not job.old), key=lambda job: job.record.ended)
        found = running or ended[-1:] or [job for job in jobs if job.state == QUEUED]
        return found[0] if found else None

    # -- the queue -------------------------------------------------------------------------------------------------

    def go(self) -> None:
        """Let jobs begin that were found waiting after a restart, or that `hold` keeps back."""
        with self._wake:
            self.held = False
            self._start()

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
                self._keep(moved)

    def edit(self, name: str, settings: Settings) -> None:
        """Other settings for a waiting job.

        Raises:
            InputError: it does not wait, or the settings will not do; then it keeps its own.
        """
        job = self._waiting(name)
        self.check(settings, job.folder)
        with self._wake:
            if any(other is not job and other.settings.name == settings.name and not other.ended for other in self._jobs):
                raise InputError(
                    [Problem("name", f"A job with the name {settings.name} is running or waits already. Choose another name.")]
                )
            if job.state != QUEUED:
                raise InputError([Problem("id", f"{settings.name} has begun meanwhile; its settings stay.")])
            job.settings = settings
            self._keep(job, settings_too=True)

    def cancel(self, name: str) -> None:
        """Take a waiting job out of the queue.

        Raises:
            InputError: it does not wait.
        """
        job = self._waiting(name)
        with self._wake:
            if job.state == QUEUED:
                self._end(job, DISCARDED, "Taken out of the queue.")

    def forget(self, name: str) -> None:
        """Delete what is left of a job that has ended: log, saved state, previews; its results stay where they are.

        Raises:
            InputError: it has not ended.
        """
        job = self.find(name)
        if not job.ended:
            raise InputError([Problem("id", f"{job.settings.name} has not ended. Stop it first.")])
        with self._wake:
            self._jobs = [other for other in self._jobs if other is not job]
        shutil.rmtree(job.folder, ignore_errors=True)

    def free_name(self, name: str, method: str) -> str:
        """``name``, or with a number behind it where a job or a file has it."""
        taken = {job.settings.name for job in self.all() if not job.ended}
        found, number = name, 2
        while found in taken or any(path.exists() for path in self._targets(found, method)):
            found, number = f"{name}-{number}", number + 1
        return found

    def _targets(self, name: str, method: str) -> list[Path]:
        settings = replace(Settings(), method=method, name=name)
        return [product.target(self.host.paths, settings, name) for product in artifact_kinds_of(settings)]

    def _waiting(self, name: str) -> Job:
        job = self.find(name)
        if job.state != QUEUED:
            raise InputError([Problem("id", f"{job.settings.name} does not wait in the queue.")])
        return job

    # -- working ---------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._wake:
                errand = next((errand for errand in self._errands if errand.state == WAITS), None)
                queue = [] if self.held else sorted((job for job in self._jobs if job.state == QUEUED), key=lambda job: job.record.place)
                if errand is None and not queue:
                    self._wake.wait()
                    continue
                if errand is None:
                    queue[0].state = RUNNING
            if errand is not None:
                errand.run()
            else:
                self._execute(queue[0])

    def _execute(self, job: Job) -> None:
        job.record.started = time.time()
        self._keep(job)
        run = Runner(job.settings, self.host, job.folder, job.progress, job.control)
        try:
            if job.control.stop_asked():
                self._end(job, DISCARDED, "Stopped before it began.")
                return
            result: Result = run.execute()
            job.file, job.record.steps = result.file, result.steps
            job.record.files = {kind: str(path) for kind, path in result.files.items()}
            self._end(job, result.outcome, _ending(result))
        except FinetuneError as error:
            job.progress.say(str(error))
            if run.rescued is not None:
                job.record.steps, files = run.rescued
                job.record.files, job.file = {kind: str(path) for kind, path in files.items()}, next(iter(files.values()))
            self._end(job, FAILED, str(error))
        except Exception as error:  # noqa: BLE001  an edge: shown or logged
            _log.exception("The job %s failed", job.folder.name)
            self._append_traceback(job)
            said = f"Something went wrong that should not: {error!r}. The details are in {RunFolder(job.folder).traceback}."
            job.progress.say(said)
            self._end(job, FAILED, said)

    def _end(self, job: Job, state: str, message: str) -> None:
        job.record.ended, job.record.message, job.message = time.time(), message, message
        job.record.keep_points(job.snapshots)
        job.record.peak = self.host.memory().peak
        job.record.state = state
        job.record.save(job.folder)
        job.state = state  # last: who sees that it has ended finds its record
        for listener in self._listeners:
            try:
                listener(job)
            except Exception:  # noqa: BLE001  an edge: shown or logged
                _log.exception("What was to follow the job %s failed", job.folder.name)

    def _keep(self, job: Job, *, settings_too: bool = False) -> None:
        """Write the record; the settings where no run has written them yet."""
        job.record.state = job.state
        job.record.save(job.folder)
        if settings_too:
            RunFolder(job.folder).write_settings(job.settings)

    def _append_traceback(self, job: Job) -> None:
        try:
            RunFolder(job.folder).traceback.write_text(traceback.format_exc(), encoding="utf-8")
        except OSError:
            _log.warning("The traceback could not be written to %s", job.folder)


def restored(host: Host) -> list[Job]:
    """Jobs that the last program left: results, those that waited, and those that it was ended in the middle of."""
    runs = host.paths.data / "runs"
    found = []
    for folder in sorted(runs.iterdir()) if runs.is_dir() else ():
        record = records.read(folder)
        settings = RunFolder(folder).settings() if record else None
        if record is not None and settings is not None:
            found.append(revived(settings, folder, record))
    return found


def _ending(result: Result) -> str:
    if result.file is None:
        return "Stopped; no file was written."
    said = (
        f"Done: {result.file.name}, {result.steps} steps."
        if result.outcome == DONE
        else f"Stopped: {result.file.name}, {result.steps} steps."
    )
    return f"{said} {result.restoration.line}"


def new_folder(host: Host, name: str) -> Path:
    """A folder for a new run, named by time; made when the run starts."""
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)[:60] or "run"
    base = host.paths.data / "runs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{safe}"
    number = 2
    folder = base
    while folder.exists():
        folder, number = base.with_name(f"{base.name}-{number}"), number + 1
    return folder


def unfinished(host: Host, name: str | None = None) -> list[Path]:
    """Folders of runs that can go on, newest first; of one result's name if given."""
    runs = host.paths.data / "runs"
    folders = sorted(runs.iterdir(), reverse=True) if runs.is_dir() else []
    found = [(folder, RunFolder(folder).settings()) for folder in folders if RunFolder(folder).resumes()]
    return [folder for folder, settings in found if settings is not None and name in (None, settings.name)]
