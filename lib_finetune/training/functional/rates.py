"""Learning-rate schedules: pure functions from progress to a factor in 0 … 1."""

from __future__ import annotations

import math
from collections.abc import Callable


def factor(schedule: str, step: int, total: int, warmup: float, restarts: int = 1, power: float = 1.0) -> float:
    """Factor on the learning rate of step ``step`` (0-based) of ``total``.

    Args:
        schedule: a key of `SCHEDULES`.
        warmup: share of the steps in which the factor rises linearly from 0.
    """
    rising = int(warmup * total)
    if step < rising:
        return (step + 1) / (rising + 1)
    progress = (step - rising) / max(1, total - rising)
    return SCHEDULES[schedule](min(1.0, progress), restarts, power)


def continued(schedule: str, step: int, total: int, rising: int, ended: float, restarts: int = 1, power: float = 1.0) -> float:
    """Factor of step ``step`` (0-based) of ``total`` further steps: it rises linearly from the last factor, then follows the schedule.

    Args:
        rising: steps in which it rises.
        ended: factor of the step before, 0 … 1.
    """
    if step < rising:
        return ended + (1.0 - ended) * (step + 1) / (rising + 1)
    return factor(schedule, step - rising, total - rising, 0.0, restarts, power)


def _cosine(progress: float, waves: int, _power: float) -> float:
    """Loshchilov and Hutter, SGDR, arXiv 1608.03983; one wave is the plain cosine."""
    return 0.5 * (1 + math.cos(math.pi * ((progress * waves) % 1.0 if progress < 1 else 1.0)))


SCHEDULES: dict[str, Callable[[float, int, float], float]] = {
    "constant": lambda progress, waves, power: 1.0,
    "linear": lambda progress, waves, power: 1.0 - progress,
    "cosine": lambda progress, waves, power: _cosine(progress, 1, power),
    "cosine_with_restarts": _cosine,
    "polynomial": lambda progress, waves, power: (1.0 - progress) ** power,
}
