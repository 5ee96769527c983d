"""Inference tensors, as weights are that were made under `torch.inference_mode`, as normal ones on the same storage.

Autograd cannot save an inference tensor, or a view of one, for the backward pass, and nothing outside inference mode may write to it.
"""

from __future__ import annotations

import torch


def normal(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, detached: a view of the same storage that autograd works with, whatever mode the tensor was made in."""
    if version(tensor) is not None:
        return tensor.detach()
    with torch.inference_mode(False), torch.no_grad():
        same_storage = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        return same_storage.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())


def version(tensor: torch.Tensor) -> int | None:
    """torch's count of the writes to a tensor; None for an inference tensor, which has none.

    `Tensor.is_inference` does not tell: one whose ``data`` was replaced, as `nn.Module.to` does it, denies it and still has no count.
    """
    try:
        return int(tensor._version)
    except RuntimeError:
        return None
