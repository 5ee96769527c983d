"""Nobody: a progress sink that hears nothing and a control that wants nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib_finetune.ports.events import PreviewRow, StepReport


class Nobody:
    """Implements `ports.events.ProgressSink` and `runs.control.Control`."""

    def stage(self, name: str, done: int = 0, total: int = 0) -> None:
        """See `ports.ProgressSink`."""

    def steps(self, report: StepReport) -> None:
        """See `ports.ProgressSink`."""

    def say(self, message: str) -> None:
        """See `ports.ProgressSink`."""

    def figure(self, name: str, step: int, value: float) -> None:
        """See `ports.ProgressSink`."""

    def previewed(self, row: PreviewRow) -> None:
        """See `ports.ProgressSink`."""

    def points(self, points: Sequence[tuple[int, Sequence[Path]]]) -> None:
        """See `ports.ProgressSink`."""

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
