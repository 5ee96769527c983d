"""An errand: a short piece of work between two trainings (a probe, a sheet of pictures), with progress and an end."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lib_finetune.errors import FinetuneError, InputError

_log = logging.getLogger(__name__)
WAITS, WORKS, READY, FAILED, STOPPED = "queued", "running", "done", "failed", "stopped"


@dataclass
class Errand:
    """Every method may be called from any thread but `run`, which belongs to the runner.

    Attributes:
        kind: what it does: "grid", "forecast", "word", "captions".
        about: id of the job or group that it belongs to, or "".
        work: does it, given this errand; its answer (plain values) becomes ``result``.
    """

    kind: str
    work: Callable[[Errand], Mapping[str, Any]]
    about: str = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    state: str = WAITS
    done: int = 0
    total: int = 0
    message: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Give it up, soon."""
        self._stop.set()

    def stop_asked(self) -> bool:
        """Whether it is to be given up."""
        return self._stop.is_set()

    def progress(self, done: int, total: int) -> None:
        """So much is done."""
        self.done, self.total = done, total

    def run(self) -> None:
        """Do the work; what goes wrong becomes the message."""
        self.state = WORKS
        try:
            self.result = self.work(self)
            self.state = STOPPED if self.stop_asked() else READY
        except InputError as error:
            self.message, self.state = " ".join(str(problem) for problem in error.problems), FAILED
        except FinetuneError as error:
            self.message, self.state = str(error), FAILED
        except Exception as error:  # noqa: BLE001  an edge: shown or logged
            _log.exception("The errand %s failed", self.kind)
            self.message, self.state = f"Something went wrong that should not: {error!r}. The console has the details.", FAILED

    @property
    def ended(self) -> bool:
        """Whether it will not go on."""
        return self.state in (READY, FAILED, STOPPED)

    def status(self) -> dict[str, Any]:
        """Plain values."""
        shown = ("id", "kind", "about", "state", "done", "total", "message")
        return {**{name: getattr(self, name) for name in shown}, "result": dict(self.result)}
