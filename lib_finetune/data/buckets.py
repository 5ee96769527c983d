"""Aspect-ratio buckets: the sizes that images are brought to, and which of them suits an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

Size = tuple[int, int]


def bucket_sizes(resolution: int, step: int = 64, buckets: bool = True) -> tuple[Size, ...]:
    """The sizes (width, height) in px whose area is about ``resolution`` squared and never above it, so that none needs more memory.

    Sides are multiples of ``step`` from half to twice the resolution; the square is always among them. SD1.5's UNet
    halves a latent three times, so that 64 px is the step in which all of its layers stay aligned.

    Args:
        resolution: px, at least ``step``; brought down to a multiple of it for the square.
        buckets: False gives the square only.

    Raises:
        ValueError: the resolution is smaller than one step.
    """
    if resolution < step:
        raise ValueError(f"a resolution of {resolution} px is smaller than one step of {step} px")
    side = resolution // step * step
    if not buckets:
        return ((side, side),)
    low, high = max(step, math.ceil(resolution / 2 / step) * step), 2 * resolution // step * step
    sizes = {(side, side)}
    for long in range(side, high + 1, step):
        short = resolution * resolution // long // step * step
        if low <= short <= long:
            sizes |= {(long, short), (short, long)}
    return tuple(sorted(sizes))


def choose(width: int, height: int, sizes: Sequence[Size]) -> Size:
    """The size of the nearest aspect ratio (by its logarithm, so that 1:2 is as far as 2:1); among equals the largest, then the widest."""
    log_aspect = math.log(width / height)
    return min(sizes, key=lambda size: (round(abs(math.log(size[0] / size[1]) - log_aspect), 9), -size[0] * size[1], -size[0]))
