"""Small tensors on their way to the device, without a wait for what it still computes."""

from __future__ import annotations

import torch


def on_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of main memory on the device. To CUDA it goes from pinned memory, from which the copy does not hold Python up."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
