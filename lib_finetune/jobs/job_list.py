"""The jobs that are known, of this session and of earlier ones."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from lib_finetune.errors import InputError, Problem
from lib_finetune.jobs.job import Job
from lib_finetune.jobs.states import ACTIVE, DAMAGED, QUEUED


class JobList:
    """Jobs in the order of their places. Any thread."""

    def __init__(self, lock: threading.Condition, jobs: Iterable[Job]) -> None:
        """
        Args:
            lock: of the queue.
        """
        self._lock = lock
        self._jobs = list(jobs)

    def all(self) -> list[Job]:
        """All of them."""
        with self._lock:
            return sorted(self._jobs, key=lambda job: job.record.place)

    def waiting(self) -> list[Job]:
        """The waiting jobs, the next one first."""
        return [job for job in self.all() if job.state == QUEUED]

    def unended(self) -> list[Job]:
        """The jobs that run or wait."""
        return [job for job in self.all() if not job.ended]

    def ahead_of(self, job: Job) -> int:
        """The number of jobs that run or wait before this one."""
        return sum(other is not job and other.record.place < job.record.place for other in self.unended())

    def current(self) -> Job | None:
        """The job that runs, else the one that ended last in this session, else the next one, else None."""
        jobs = self.all()
        running = [job for job in jobs if job.state in ACTIVE]
        ended = sorted((job for job in jobs if job.ended and not job.old), key=lambda job: job.record.ended)
        return next(iter(running or ended[-1:] or self.waiting()), None)

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

    def find_waiting(self, name: str) -> Job:
        """As `find`, of a job that waits.

        Raises:
            InputError: there is none, or it does not wait.
        """
        job = self.find(name)
        if job.state != QUEUED:
            raise InputError([Problem("id", f"{job.settings.name} does not wait in the queue.")])
        return job

    def next_place(self) -> float:
        """A place in the queue behind all others."""
        with self._lock:
            return 1 + max((job.record.place for job in self._jobs), default=0.0)

    def add(self, job: Job) -> None:
        """Add a job; it replaces an earlier one on the same folder."""
        with self._lock:
            self._jobs = [*(other for other in self._jobs if other.folder != job.folder), job]

    def remove(self, job: Job) -> None:
        """Remove a job from the list."""
        with self._lock:
            self._jobs = [other for other in self._jobs if other is not job]
