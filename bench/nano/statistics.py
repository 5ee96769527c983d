"""Shares and means with 95 % intervals, as the measure reports them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_Z = 1.96
_RESAMPLES = 2000


@dataclass(frozen=True)
class Figure:
    """One number of the measure.

    Attributes:
        value: a share (0 to 1) or a mean; nan when nothing was looked at.
        low, high: its 95 % interval.
        count: the pictures (or pairs of pictures) behind it.
    """

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] n={self.count}"


def share(hits: Sequence[bool]) -> Figure:
    """Share of hits with Wilson's interval (1927)."""
    count = len(hits)
    if count == 0:
        return Figure(math.nan, 0.0, 1.0, 0)
    found = sum(bool(hit) for hit in hits) / count
    middle = found + _Z * _Z / (2 * count)
    spread = _Z * math.sqrt(found * (1 - found) / count + _Z * _Z / (4 * count * count))
    scale = 1 + _Z * _Z / count
    return Figure(found, max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale), count)


def mean(values: Sequence[float] | np.ndarray, seed: int = 0) -> Figure:
    """Mean with the bootstrap's percentile interval (Efron 1979), 2000 resamples."""
    return _bootstrap(np.asarray(values, dtype=np.float64), lambda resampled: resampled.mean(-1), seed)


def spread(values: Sequence[float] | np.ndarray, seed: int = 0) -> Figure:
    """Standard deviation with the bootstrap's percentile interval."""
    return _bootstrap(np.asarray(values, dtype=np.float64), lambda resampled: resampled.std(-1), seed)


def _bootstrap(values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], seed: int) -> Figure:
    if values.size == 0:
        return Figure(math.nan, math.nan, math.nan, 0)
    resampled = np.random.default_rng(seed).choice(values, (_RESAMPLES, values.size))
    low, high = np.percentile(statistic(resampled), [2.5, 97.5])
    return Figure(float(statistic(values)), float(low), float(high), int(values.size))
