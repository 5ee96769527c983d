"""What the person wants of a job: pressed in the tab or asked by the API, read by the run."""

from __future__ import annotations

import threading


class JobControl:
    """Implements `runs.control.Control`; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stops = self._discards = self._pauses = False
        self._presses: set[str] = set()

    def stop(self, *, keep: bool) -> None:
        """End after the step that runs; ``keep`` writes the file of what was trained so far."""
        self._stops, self._discards = True, not keep

    def pause(self) -> None:
        """Rest after the step that runs, until `resume`; what was trained so far is saved and the WebUI is free."""
        self._pauses = True

    def resume(self) -> None:
        """End a pause."""
        self._pauses = False

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
        """Whether the button was pressed since it was asked last."""
        with self._lock:
            pressed = button in self._presses
            self._presses.discard(button)
            return pressed
