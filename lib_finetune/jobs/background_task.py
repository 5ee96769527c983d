"""A short piece of work between two trainings (a trial, a comparison grid), with progress and an end."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lib_finetune.errors import DeviceLostError, FinetuneError, InputError, denied_in_words, device_loss

_log = logging.getLogger(__name__)
WAITS, WORKS, READY, FAILED, STOPPED = "queued", "running", "done", "failed", "stopped"


@dataclass
class BackgroundTask:
    """Every method may be called from any thread but `run`, which belongs to the worker.

    Attributes:
        kind: what it does: "sheet", "forecast", "select", "captions", "extract", "resize".
        about: id of the job or group that it belongs to, or "".
        work: takes this task and does the work; its answer (plain values) becomes ``result``.
        lost_reason: what the driver said when the work lost the GPU, or "".
    """

    kind: str
    work: Callable[[BackgroundTask], Mapping[str, Any]]
    about: str = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    state: str = WAITS
    done: int = 0
    total: int = 0
    message: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    lost_reason: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Ask the work to end soon."""
        self._stop.set()

    def stop_asked(self) -> bool:
        """Whether the work should end."""
        return self._stop.is_set()

    def progress(self, done: int, total: int) -> None:
        """Note how much is done."""
        self.done, self.total = done, total

    def run(self) -> None:
        """Do the work; any error becomes the message."""
        self.state = WORKS
        try:
            self.result = self.work(self)
            self.state = STOPPED if self.stop_asked() else READY
        except BaseException as error:  # noqa: BLE001  an edge: shown or logged
            try:
                self.lost_reason = device_loss(error)
                self.message = self._words_of(error)
            finally:
                self.state = FAILED

    def refuse(self, why: str) -> None:
        """End the task without a result."""
        self.message, self.state = why, FAILED

    def _words_of(self, error: BaseException) -> str:
        if self.lost_reason:
            return str(DeviceLostError(self.lost_reason))
        if isinstance(error, InputError):
            return " ".join(str(problem) for problem in error.problems)
        if isinstance(error, FinetuneError):
            return str(error)
        _log.error("The task %s failed", self.kind, exc_info=error)
        if denied := denied_in_words(error):
            return denied
        return f"An unexpected error: {error!r}. The console has the details."

    @property
    def ended(self) -> bool:
        """Whether the task has ended."""
        return self.state in (READY, FAILED, STOPPED)

    def status(self) -> dict[str, Any]:
        """The task as plain values."""
        shown = ("id", "kind", "about", "state", "done", "total", "message")
        return {**{name: getattr(self, name) for name in shown}, "result": dict(self.result)}
