"""Whether weights are numbers: a file that holds NaN gives NaN for everything, and is named before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def not_finite(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or infinity; None where all are numbers."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() and not bool(torch.isfinite(_comparable(tensor)).all()):
            return name
    return None


def _comparable(tensor: torch.Tensor) -> torch.Tensor:
    """In a type that torch can look into: of eight bits it knows how to convert and little else."""
    return tensor if tensor.element_size() > 1 else tensor.float()
