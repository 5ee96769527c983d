"""Losses per sample."""

from __future__ import annotations

import torch


def mse(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error of each sample: [b, c, h, w] twice → [b]."""
    return (prediction - target).square().mean(dim=(1, 2, 3))


def huber(prediction: torch.Tensor, target: torch.Tensor, c: float) -> torch.Tensor:
    """Pseudo-Huber loss 2c (sqrt(d² + c²) − c) of each sample, [b]; equals MSE for errors far below ``c``.

    Charbonnier et al., Deterministic edge-preserving regularization in computed imaging, 1997; scaled as in sd-scripts.
    """
    difference = prediction - target
    return (2 * c * ((difference.square() + c * c).sqrt() - c)).mean(dim=(1, 2, 3))
