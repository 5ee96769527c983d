"""The losses of a job as they are shown: those that are numbers, and their smoothed curve."""

from __future__ import annotations

import math
from collections.abc import Iterable

from lib_finetune.training.curve import SMOOTH

_POINTS_SHOWN = 400


class LossSeries:
    """Each loss is smoothed once, when it comes: who asks for the curve every second does not pay for its length.

    Attributes:
        points: (step, loss); JSON knows neither NaN nor infinity, so those are left out.
        smooth: (step, smoothed loss), one for each of ``points``.
    """

    def __init__(self) -> None:
        self.points: list[tuple[int, float]] = []
        self.smooth: list[tuple[int, float]] = []
        self._mean = 0.0
        self._weight = 0.0

    def add(self, points: Iterable[tuple[int, float]]) -> None:
        """Further losses, in the order in which they were measured."""
        for step, loss in points:
            if math.isfinite(loss):
                # Divided by the weights so far, so that the curve does not begin at zero.
                self._mean, self._weight = SMOOTH * self._mean + (1 - SMOOTH) * loss, SMOOTH * self._weight + (1 - SMOOTH)
                self.points.append((step, loss))
                self.smooth.append((step, self._mean / self._weight))


def thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most some hundred of them, as many as a curve on a page can show."""
    return points[:: max(1, len(points) // _POINTS_SHOWN)]
