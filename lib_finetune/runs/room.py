"""Room on the disk: what a run does when it cannot write a file, so that the training is not lost."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from lib_finetune.errors import DiskError, SaveError

if TYPE_CHECKING:
    from lib_finetune.ports.events import ProgressSink

WAIT_S = 600.0
"""How long the command line waits for room."""
POLL_S = 5.0
_ANYWAY_S = 60.0
"""Seconds after which the run tries again although the disk reports no more room: the report does not show quotas and permissions."""
_Answer = TypeVar("_Answer")


class RoomWait(Protocol):
    """Waits for room on the disk in the way that suits the caller of the run.

    Attributes:
        words: a sentence on what it waits for; "" if it does not wait.
        asks: whether it asks the person, whose answer then holds.
    """

    words: str
    asks: bool

    def again(self, error: DiskError, began: float) -> bool:
        """Wait until another try is worth it; False when the waiting is over.

        Args:
            began: `time.monotonic` of the first try that failed.
        """


class NoWait:
    """Implements `RoomWait` without waiting: the first failure counts."""

    words = ""
    asks = False

    def again(self, error: DiskError, began: float) -> bool:
        """Always False."""
        return False


NO_WAIT = NoWait()


class WaitMinutes:
    """Implements `RoomWait` for the command line: tries again for ten minutes, whenever more is free."""

    asks = False

    def __init__(self, stop_asked: Callable[[], bool] = lambda: False) -> None:
        """
        Args:
            stop_asked: whether the program is to end.
        """
        self._stop_asked = stop_asked
        self.words = f"It is tried again for {WAIT_S / 60:.0f} minutes: make room, or end it with Ctrl-C."

    def again(self, error: DiskError, began: float) -> bool:
        """See `RoomWait`."""
        ends = began + WAIT_S
        if time.monotonic() >= ends or self._stop_asked():
            return False
        free, since = _free(error.path), time.monotonic()
        while time.monotonic() < min(ends, since + _ANYWAY_S) and not self._stop_asked():
            time.sleep(min(POLL_S, max(0.0, ends - time.monotonic())))
            if _free(error.path) > free:
                break
        return not self._stop_asked()


class DiskRoom:
    """Writes the files of one run. For a state it waits once, for the result as long as its `RoomWait` allows."""

    def __init__(self, sink: ProgressSink, wait: RoomWait) -> None:
        self._sink = sink
        self._wait = wait
        self._missing = False

    def insist(self, write: Callable[[], _Answer]) -> _Answer:
        """Write what must not be lost, and return the outcome; the content stays in memory until there is room.

        Raises:
            DiskError: the wait was given up; the message says what was tried.
            SaveError: the file cannot be written even with enough room.
        """
        tries, began = 0, time.monotonic()
        while True:
            tries += 1
            try:
                return write()
            except DiskError as error:
                failure = error
            if self._wait.words and (tries == 1 or self._wait.asks):
                self._sink.say(f"{failure} What was trained stays in memory. {self._wait.words}")
            if not self._wait.again(failure, began):
                raise self._given_up(failure, tries, time.monotonic() - began) from failure

    def try_state(self, step: int, write: Callable[[], None], *, patient: bool) -> bool:
        """Write a saved state; returns whether it was written. The first failure is reported, and the next success after it.

        Args:
            patient: whether it waits after the first failure; after that, training continues without a saved state.
        """
        try:
            write()
        except SaveError as error:
            if self._missing:
                return False
            self._missing = True
            return self._without(step, write, error, patient=patient)
        if self._missing:
            self._sink.say(f"States are saved again, from step {step} on.")
        self._missing = False
        return True

    def _without(self, step: int, write: Callable[[], None], error: SaveError, *, patient: bool) -> bool:
        waits = patient and bool(self._wait.words) and isinstance(error, DiskError)
        self._sink.say(f"The state of step {step} was not saved. {error}{f' {self._wait.words}' if waits else ''}")
        began = time.monotonic()
        while waits and isinstance(error, DiskError) and self._wait.again(error, began):
            try:
                write()
            except SaveError as failure:
                error = failure
                waits = not self._wait.asks  # the person chose to continue
            else:
                self._sink.say(f"The state of step {step} is saved now.")
                self._missing = False
                return True
        self._sink.say("Training continues without it; the next state is tried as usual. If the program ends before, the steps are lost.")
        return False

    def _given_up(self, failure: DiskError, tries: int, seconds: float) -> DiskError:
        if not self._wait.words:
            return failure
        times = "once" if tries == 1 else f"{tries} times"
        return DiskError(f"{failure} It was tried {times} in {seconds / 60:.0f} minutes and given up.", failure.path)


def _free(path: Path) -> int:
    """Free bytes on the disk of a future file; 0 if the system does not tell."""
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return 0
