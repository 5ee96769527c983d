"""What has changed of the jobs since a client asked last, so that asking every second costs little."""

from __future__ import annotations

import threading
import uuid
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lib_finetune.app import job_view
from lib_finetune.jobs.status import Extent, added_since, extent_of, series_of

if TYPE_CHECKING:
    from lib_finetune.jobs.job import Job
    from lib_finetune.jobs.queue import Jobs

_EXTENTS_KEPT = 600
"""Looks at a job whose extents are remembered: who has not asked for longer gets its series whole."""


class Changes:
    """Numbers the looks at which something had changed; a cursor is such a number, and the session that it belongs to. Any thread."""

    def __init__(self, jobs: Jobs) -> None:
        self._queue = jobs
        self._session = uuid.uuid4().hex[:8]
        self._lock = threading.Lock()
        self._number = 0
        self._jobs: dict[str, _KnownJob] = {}
        self._tasks: dict[str, _Known] = {}
        self._rest = _Known(0)
        self._gone: dict[str, int] = {}

    def since(self, cursor: str) -> dict[str, Any]:
        """What is to be laid over the answer that ``cursor`` came with.

        Of a job that the client knows, ``jobs`` holds its id and the fields that have changed, and below "added" what is to be appended to "log",
        "losses" and "smooth"; of another job everything. ``gone`` are ids of jobs that are no more. "queue", "held" and "lost" are there when
        they have changed. "whole" says that the cursor was not known (it is "", or of before a restart), and that the answer stands for itself.
        """
        with self._lock:
            self._look()
            asked = self._number_of(cursor)
            return {
                "cursor": f"{self._session}-{self._number}",
                "whole": asked < 0,
                "jobs": [change for job in self._jobs.values() if (change := job.since(asked))],
                "gone": [name for name, number in self._gone.items() if asked >= 0 and number > asked],
                "errands": [task.values for task in self._tasks.values() if task.changed_since(asked)],
                **self._rest.since(asked),
            }

    def _number_of(self, cursor: str) -> int:
        """-1 for a cursor that is none of this session's."""
        session, _, number = cursor.partition("-")
        known = session == self._session and number.isdecimal() and len(number) < 20 and int(number) <= self._number
        return int(number) if known else -1

    def _look(self) -> None:
        number = self._number + 1
        jobs = [(job, job_view.figures(job)) for job in self._queue.known.all()]
        tasks = {task["id"]: task for task in job_view.background_tasks(self._queue)}
        names = {job.folder.name for job, _ in jobs}
        for name in self._jobs.keys() - names:
            del self._jobs[name]
            self._gone[name] = number
        changed = [number in self._gone.values(), self._rest.take(job_view.queue(self._queue), number)]
        for job, figures in jobs:
            known = self._jobs.get(job.folder.name)
            if known is None or known.job is not job:
                known = self._jobs[job.folder.name] = _KnownJob(number, job)
                self._gone.pop(job.folder.name, None)
            changed.append(known.take(figures, number))
        self._tasks = {name: self._tasks.get(name) or _Known(number) for name in tasks}
        changed += [self._tasks[name].take(task, number) for name, task in tasks.items()]
        if any(changed):
            self._number = number


class _Known:
    """Values by name, and at which look each of them changed last."""

    def __init__(self, number: int) -> None:
        self.born = number
        self.values: dict[str, Any] = {}
        self._changed: dict[str, int] = {}

    def take(self, values: Mapping[str, Any], number: int) -> bool:
        """Whether something is new."""
        new = {name: value for name, value in values.items() if name not in self.values or self.values[name] != value}
        self.values.update(new)
        self._changed.update(dict.fromkeys(new, number))
        return bool(new)

    def since(self, asked: int) -> dict[str, Any]:
        return {name: value for name, value in self.values.items() if self._changed[name] > asked}

    def changed_since(self, asked: int) -> bool:
        return any(number > asked for number in self._changed.values())


class _KnownJob(_Known):
    """A job's figures, and how far its series had come at the last looks."""

    def __init__(self, number: int, job: Job) -> None:
        super().__init__(number)
        self.job = job
        self._extents: deque[tuple[int, Extent]] = deque(maxlen=_EXTENTS_KEPT)

    def take(self, values: Mapping[str, Any], number: int) -> bool:
        new, extent = super().take(values, number), extent_of(self.job)
        if self._extents and self._extents[-1][1] == extent:
            return new
        self._extents.append((number, extent))
        return True

    def since(self, asked: int) -> dict[str, Any]:
        """Empty where nothing has changed."""
        now = self._extents[-1][1]
        if self.born > asked:
            return {**self.values, **series_of(self.job, now)}
        figures = super().since(asked)
        before = next((extent for number, extent in reversed(self._extents) if number <= asked), None)
        if before is None:
            return {"id": self.values["id"], **figures, **series_of(self.job, now)}
        series = {"added": added_since(self.job, before, now)} if before != now else {}
        return {"id": self.values["id"], **figures, **series} if figures or series else {}
