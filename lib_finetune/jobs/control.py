"""The person's wishes for a job: pressed in the tab or sent to the API, and read by the run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class JobControl:
    """Implements `runs.control.Control`; every method may be called from any thread.

    It has more than fifteen methods because each button has a press and a question of its own.

    Attributes:
        suspended: whether it was stopped because the program ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stops = self._discards = self._pauses = False
        self._presses: set[str] = set()
        self.suspended = False

    def stop(self, *, keep: bool) -> None:
        """End after the step that runs; ``keep`` writes the file of what was trained so far."""
        with self._lock:
            self._stops, self._discards = True, not keep

    def suspend(self) -> None:
        """End after the step that runs, with the state saved and no file written: the program ends."""
        self.suspended = True
        self.stop(keep=False)

    def pause(self) -> None:
        """Pause after the step that runs, until `resume`; the state is saved and the WebUI is free."""
        self._pauses = True

    def resume(self) -> None:
        """End a pause."""
        self._pauses = False

    @contextmanager
    def resting(self) -> Iterator[None]:
        """A pause by the run itself: inside, only new presses count; an earlier stop holds again afterwards."""
        with self._lock:
            stopped, self._stops, self._pauses = self._stops, False, True
        try:
            yield
        finally:
            with self._lock:
                self._stops, self._pauses = self._stops or stopped, False

    def load_checkpoint(self) -> None:
        """While waiting for a checkpoint: load it and continue."""
        self._press("load")

    def preview_now(self) -> None:
        """Make a preview after the step that runs (at once while paused)."""
        self._press("preview")

    def save_now(self) -> None:
        """Save the file as trained so far, after the step that runs (at once while paused), and keep it."""
        self._press("save")

    def stop_asked(self) -> bool:
        """See `Control`."""
        return self._stops

    def discard_asked(self) -> bool:
        """See `Control`."""
        return self._discards

    def pause_asked(self) -> bool:
        """See `Control`."""
        return self._pauses

    def load_asked(self) -> bool:
        """See `Control`."""
        return self._take("load")

    def preview_asked(self) -> bool:
        """See `Control`."""
        return self._take("preview")

    def save_asked(self) -> bool:
        """See `Control`."""
        return self._take("save")

    def _press(self, button: str) -> None:
        with self._lock:
            self._presses.add(button)

    def _take(self, button: str) -> bool:
        """Whether the button was pressed since the last question."""
        with self._lock:
            pressed = button in self._presses
            self._presses.discard(button)
            return pressed
