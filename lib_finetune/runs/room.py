"""Room on the disk: what a run does when a file cannot be written, so that what was trained is not lost with it."""

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
"""After so long it is tried again though the disk tells of no more room: quotas and permissions do not show there."""
_Answer = TypeVar("_Answer")


class RoomWait(Protocol):
    """Waits for room on behalf of whoever looks after the run.

    Attributes:
        words: what is waited for, in a sentence; "" where nothing is.
        asks: whether the person is asked, so that their answer holds.
    """

    words: str
    asks: bool

    def again(self, error: DiskError, began: float) -> bool:
        """Wait until a further try is worth it; False when nobody wants to wait any longer.

        Args:
            began: `time.monotonic` of the first try that failed.
        """


class NoWait:
    """Implements `RoomWait` where nobody waits: the first failure counts."""

    words = ""
    asks = False

    def again(self, error: DiskError, began: float) -> bool:
        """Never."""
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
    """Has the files of one run written. A state is worth one wait, the result is worth all that its `RoomWait` gives."""

    def __init__(self, sink: ProgressSink, wait: RoomWait) -> None:
        self._sink = sink
        self._wait = wait
        self._missing = False

    def insist(self, write: Callable[[], _Answer]) -> _Answer:
        """The outcome of writing what must not be lost; it stays in memory until there is room.

        Raises:
            DiskError: it was given up, with what was tried.
            SaveError: it cannot be written, however much room there is.
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
        """Write a saved state; whether it was. That none can be written is said once, and again when one can.

        Args:
            patient: whether the first failure is waited on; then the training goes on without.
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
                waits = not self._wait.asks  # the person said to go on
            else:
                self._sink.say(f"The state of step {step} is saved now.")
                self._missing = False
                return True
        self._sink.say("Training goes on without it; the next state is tried as usual. If the program ends before, the steps are lost.")
        return False

    def _given_up(self, failure: DiskError, tries: int, seconds: float) -> DiskError:
        if not self._wait.words:
            return failure
        times = "once" if tries == 1 else f"{tries} times"
        return DiskError(f"{failure} It was tried {times} in {seconds / 60:.0f} minutes and given up.", failure.path)


def _free(path: Path) -> int:
    """Bytes that are free where a file is to go; 0 where that cannot be told."""
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return 0
