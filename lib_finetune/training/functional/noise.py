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
