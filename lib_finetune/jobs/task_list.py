"""The background tasks of a session."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from lib_finetune.errors import InputError, Problem
from lib_finetune.jobs.background_task import WAITS, BackgroundTask

_MOST = 50


class TaskList:
    """The latest background tasks, oldest first. Any thread."""

    def __init__(self, lock: threading.Condition, wake_worker: Callable[[], None]) -> None:
        """
        Args:
            lock: of the queue.
            wake_worker: called under the lock when a task is added.
        """
        self._lock = lock
        self._wake_worker = wake_worker
        self._tasks: list[BackgroundTask] = []

    def add(self, kind: str, work: Callable[[BackgroundTask], Mapping[str, Any]], about: str = "") -> BackgroundTask:
        """Queue a short piece of work; it is done before the next job begins."""
        task = BackgroundTask(kind, work, about)
        with self._lock:
            self._tasks = [*self._tasks[-_MOST:], task]
            self._wake_worker()
        return task

    def all(self) -> list[BackgroundTask]:
        """The tasks of this session, oldest first."""
        with self._lock:
            return list(self._tasks)

    def find(self, name: str) -> BackgroundTask:
        """A background task of this session.

        Raises:
            InputError: there is none of this id.
        """
        for task in self.all():
            if task.id == name:
                return task
        raise InputError([Problem("id", f"There is no background task {name!r}.")])

    def next(self) -> BackgroundTask | None:
        """The first waiting task; None without any."""
        return next((task for task in self.all() if task.state == WAITS), None)
