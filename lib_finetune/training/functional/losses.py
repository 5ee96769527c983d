"""Losses per sample."""

from __future__ import annotations

import torch


def mse(prediction: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Mean squared error of each sample: [b, c, h, w] twice → [b].

    Args:
        weight: of each place, [b, 1, h, w]; the mean is over all places, so that what counts less pulls less and nothing else more.
    """
    return _mean((prediction - target).square(), weight)


def huber(prediction: torch.Tensor, target: torch.Tensor, c: float, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Pseudo-Huber loss 2c (sqrt(d² + c²) − c) of each sample, [b]; equals MSE for errors far below ``c``.

    Charbonnier et al., Deterministic edge-preserving regularization in computed imaging, 1997; scaled as in sd-scripts.

    Args:
        weight: as of `mse`.
    """
    difference = prediction - target
    return _mean(2 * c * ((difference.square() + c * c).sqrt() - c), weight)


def _mean(values: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    return (values if weight is None else values * weight).mean(dim=(1, 2, 3))
