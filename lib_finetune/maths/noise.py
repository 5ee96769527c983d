"""Noise and timesteps of a step, drawn from a generator that is given."""

from __future__ import annotations

import torch


def gaussian(shape: tuple[int, ...], offset: float, generator: torch.Generator) -> torch.Tensor:
    """Gaussian noise [b, c, h, w] float32 on the generator's device, plus ``offset`` × one more draw a channel.

    Guttenberg, Diffusion with Offset Noise, crosslabs.org 2023.
    """
    noise = torch.randn(shape, generator=generator, device=generator.device)
    if offset:
        noise += offset * torch.randn(*shape[:2], 1, 1, generator=generator, device=generator.device)
    return noise


def timesteps(count: int, low: int, high: int, generator: torch.Generator) -> torch.Tensor:
    """``count`` timesteps uniform over low … high inclusive, int64."""
    return torch.randint(low, high + 1, (count,), generator=generator, device=generator.device)


def step_seed(seed: int, step: int, stream: int) -> int:
    """A seed for one stream of one step: the same for the same three numbers, unrelated for others (splitmix64).

    Steele et al., Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
    """
    mask = (1 << 64) - 1
    value = (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + stream * 0x8CB92BA72F3D8DD7) & mask
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = ((value ^ (value >> shift)) * factor) & mask
    return (value ^ (value >> 31)) & ((1 << 63) - 1)
