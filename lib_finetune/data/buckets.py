"""Aspect-ratio buckets: sizes in steps of 64 px with about the same area, so that pictures keep their shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

STEP_PX = 64


def bucket_sizes(resolution: int, step: int = STEP_PX) -> tuple[tuple[int, int], ...]:
    """(width, height) pairs whose area is at most about resolution², sides from half to twice the resolution.

    Args:
        resolution: side of the square in px, a multiple of ``step``.
    """
    sizes = {(resolution, resolution)}
    for width in range(max(step, resolution // 2 // step * step), 2 * resolution + 1, step):
        height = max(step, resolution * resolution // width // step * step)
        if resolution / 2 <= height <= 2 * resolution:
            sizes |= {(width, height), (height, width)}
    return tuple(sorted(sizes))


def choose(width: int, height: int, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The size whose shape is nearest to a picture's; among equals the largest."""
    shape = math.log(width / height)
    return min(sizes, key=lambda size: (round(abs(math.log(size[0] / size[1]) - shape), 9), -size[0] * size[1]))
