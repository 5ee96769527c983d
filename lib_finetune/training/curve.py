"""The smoothed loss, as the tab shows it, and its beginning: they show that a run goes wrong while its numbers are still finite."""

from __future__ import annotations

from collections.abc import Mapping

SMOOTH = 0.95
"""The smoothing of the curve that the tab shows."""
FAR = 1.5
"""In multiples of the mean of the first losses."""
FEWEST = 50
"""The number of losses before which none counts as far above the beginning, because the noise of single images is as large."""


class Curve:
    """Every loss of a run, in order. The run saves its state, so that a resumed run judges like one that was never stopped."""

    def __init__(self, steps: int) -> None:
        """
        Args:
            steps: of the run; the losses of the first tenth are its beginning.
        """
        self._of = max(FEWEST, steps // 10)
        self._count = 0
        self._sum = 0.0
        self._mean = 0.0
        self._weight = 0.0

    def add(self, loss: float) -> bool:
        """Remember a loss; returns whether the smoothed loss stays near the beginning."""
        if self._count < self._of:
            self._count += 1
            self._sum += loss
        self._mean, self._weight = self._with(loss)
        return self._near(self._mean / self._weight)

    def near(self, loss: float) -> bool:
        """What `add` would return, without remembering the loss."""
        mean, weight = self._with(loss)
        return self._near(mean / weight)

    @property
    def course(self) -> tuple[float, float]:
        """The mean loss of the beginning and the smoothed loss now; zeros before the first loss."""
        return self._sum / max(1, self._count), self._mean / self._weight if self._weight else 0.0

    def _with(self, loss: float) -> tuple[float, float]:
        # Divided by the weights so far, so that the curve does not begin at zero.
        return SMOOTH * self._mean + (1 - SMOOTH) * loss, SMOOTH * self._weight + (1 - SMOOTH)

    def _near(self, smoothed: float) -> bool:
        return self._count < FEWEST or smoothed <= FAR * self._sum / self._count

    def state(self) -> dict[str, float]:
        """What `load_state` needs."""
        return {"of": self._of, "count": self._count, "sum": self._sum, "mean": self._mean, "weight": self._weight}

    def load_state(self, state: Mapping[str, float]) -> None:
        """The inverse of `state`; an empty one, of a version before this, leaves the curve at its beginning."""
        if state:
            self._of, self._count = int(state["of"]), int(state["count"])
            self._sum, self._mean, self._weight = state["sum"], state["mean"], state["weight"]
