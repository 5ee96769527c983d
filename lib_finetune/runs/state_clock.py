"""The clock of saved states: one is due after some steps or minutes, whichever come first, but never so often that writing takes much of the time."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY_S = 300.0
"""Seconds that a kill costs at most if steps are slow: the WebUI ends without a warning, so that the state must exist already."""
SHARE = 0.03
"""The largest share of the time that writing takes; it counts where a state takes longer than `SHARE` × `EVERY_S` = 9 s."""


class StateClock:
    """Counts steps and seconds since the last state was written."""

    def __init__(self, every_steps: int, now: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            every_steps: as the settings say; 0 is never.
        """
        self._every_steps = every_steps
        self._now = now
        self._last = now()
        self._least = 0.0

    def due(self, step: int) -> bool:
        """Whether a state is to be written after a step."""
        elapsed = self._now() - self._last
        by_steps = self._every_steps > 0 and step % self._every_steps == 0
        return (by_steps or elapsed >= EVERY_S) and elapsed >= self._least

    def wrote(self, seconds: float) -> str:
        """Note that writing a state, or trying to, took so many seconds; returns a sentence if the interval grows, else ""."""
        self._last = self._now()
        before = self._least
        self._least = seconds / SHARE if seconds > SHARE * EVERY_S else 0.0
        if self._least <= max(before, EVERY_S):
            return ""
        return (
            f"Writing the state took {seconds:.0f} s. To keep writing below {SHARE:.0%} of the time, the next one is written "
            f"after {self._least / 60:.0f} minutes at the earliest."
        )
