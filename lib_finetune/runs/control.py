"""What the person wants of a running job."""

from __future__ import annotations

from typing import Protocol

PAUSED = "paused"
"""The stage of a run that is paused."""


class Control(Protocol):
    """Questions that a run asks in the job's thread. A host that makes an image also asks for stop, pause and save, in a thread of its own."""

    def stop_asked(self) -> bool:
        """End after this step."""

    def discard_asked(self) -> bool:
        """On stopping, write no file."""

    def load_asked(self) -> bool:
        """While waiting for a checkpoint: load it. Answers True once for each press."""

    def pause_asked(self) -> bool:
        """Rest after this step, with nothing of the host held, for as long as this answers True."""

    def preview_asked(self) -> bool:
        """Make a preview after this step. Answers True once for each press; asked by `runs.presses.Presses` from a thread of its own too."""

    def save_asked(self) -> bool:
        """Save the file after this step and keep it. Answers True once for each press; asked as `preview_asked` is."""
