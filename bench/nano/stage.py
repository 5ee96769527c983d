"""What the training stages share: a state on disk that a killed run continues from, and the learning rate's shape."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a stage's state whole or not at all."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def load_state(path: Path) -> dict[str, Any] | None:
    """Read a stage's state; None when it has not begun."""
    import torch

    return torch.load(path, weights_only=True, map_location="cpu") if path.is_file() else None


def lr_at(step: int, steps: int, peak: float, warmup: int = 50, floor: float = 0.02) -> float:
    """Learning rate of a step: linear warm-up, then a cosine down to ``floor * peak``."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group of an optimizer the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr
