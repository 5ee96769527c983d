"""A control that asks for nothing, and a sink that keeps nothing."""

from __future__ import annotations


class NullControl:
    """Implements `runs.control.Control`."""

    def stop_asked(self) -> bool:
        """Never."""
        return False

    def discard_asked(self) -> bool:
        """Never."""
        return False

    def load_asked(self) -> bool:
        """Never."""
        return False

    def pause_asked(self) -> bool:
        """Never."""
        return False

    def preview_asked(self) -> bool:
        """Never."""
        return False

    def save_asked(self) -> bool:
        """Never."""
        return False


class NullSink:
    """Implements `ports.events.ProgressSink`."""

    def ignore(self, *_: object) -> None:
        """Nothing is kept."""

    stage = steps = figure = previewed = points = ignore

    def say(self, message: str) -> None:
        """Nothing is kept."""
