"""The difference between a trained model and its base as a LoRA of a given rank, by singular value decomposition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

_OVERSAMPLING, _ITERATIONS = 8, 4  # of the randomised decomposition, Halko et al., arXiv 0909.4061


@dataclass(frozen=True)
class Extraction:
    """
    Attributes:
        tensors: of kohya's LoRA file, float32 on the CPU.
        error: how much of the whole difference is not in it: ‖Δ − Δ'‖ / ‖Δ‖ over all trained weights, 0 to 1.
    """

    tensors: dict[str, torch.Tensor]
    error: float


def extract(
    trained: Mapping[str, torch.Tensor],
    base: Mapping[str, torch.Tensor],
    modules: Mapping[str, str],
    rank: int,
    on_weight: Callable[[int, int], None] = lambda _done, _total: None,
) -> Extraction:
    """Best approximation of each layer's difference by matrices of a rank; biases and norms are left out, and counted in the error.

    Args:
        trained: LDM name → weight, on any device.
        base: LDM name → weight of the base, of the same number of elements; it is computed where these are.
        modules: LDM name of a linear layer's or convolution's weight → its name in the file ("lora_unet_…").
        on_weight: told (done, total) before each weight; what it raises ends the work.
    """
    tensors: dict[str, torch.Tensor] = {}
    whole = lost = 0.0
    for done, (name, value) in enumerate(trained.items()):
        on_weight(done, len(trained))
        own = base[name].detach().float().reshape(value.shape)
        delta = value.detach().to(own.device, torch.float32) - own
        square = float(delta.square().sum())
        whole += square
        if square == 0.0:
            continue
        if name not in modules:
            lost += square
            continue
        down, up = _factors(delta, rank)
        lost += max(0.0, square - float((up.flatten(1) @ down.flatten(1)).square().sum()))
        module = modules[name]
        tensors[f"{module}.lora_down.weight"], tensors[f"{module}.lora_up.weight"] = down.cpu(), up.cpu()
        tensors[f"{module}.alpha"] = torch.tensor(float(down.shape[0]))
    return Extraction(tensors, (lost / whole) ** 0.5 if whole else 0.0)


def _factors(delta: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(down, up) whose product is nearest to a difference [out, in] or [out, in, h, w]; √σ goes to each side."""
    flat = delta.flatten(1)
    rank = min(rank, *flat.shape)
    # `manual_seed` reaches every card, so the states of all of them are kept.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []):
        torch.manual_seed(0)
        u, s, v = torch.svd_lowrank(flat, q=min(rank + _OVERSAMPLING, *flat.shape), niter=_ITERATIONS)
    root = s[:rank].sqrt()
    up, down = u[:, :rank] * root, (v[:, :rank] * root).t()
    if delta.ndim == 4:
        return down.reshape(rank, *delta.shape[1:]).contiguous(), up.reshape(*up.shape, 1, 1).contiguous()
    return down.contiguous(), up.contiguous()
