"""The difference between a trained model and its base as a LoRA, by singular value decomposition, a layer at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from lib_finetune.export import low_rank
from lib_finetune.export.low_rank import Keep

_OVERSAMPLING, _ITERATIONS = 8, 4  # of the randomised decomposition, Halko et al., arXiv 0909.4061


@dataclass(frozen=True)
class Extraction:
    """
    Attributes:
        tensors: of kohya's LoRA file, on the CPU.
        error: how much of the whole difference is not in it: ‖Δ − Δ'‖ / ‖Δ‖ over all trained weights, 0 to 1.
        change: how large the whole difference is: ‖Δ‖ / ‖W‖ over all weights that were compared.
        ranks: of each layer in it.
    """

    tensors: dict[str, torch.Tensor]
    error: float
    change: float
    ranks: tuple[int, ...]


def extract(
    trained: Mapping[str, torch.Tensor],
    base: Mapping[str, torch.Tensor],
    modules: Mapping[str, str],
    keep: Keep,
    on_weight: Callable[[int, int], None] = lambda _done, _total: None,
    dtype: torch.dtype = torch.float32,
    *,
    rounded: bool = False,
) -> Extraction:
    """Best approximation of each layer's difference; what is in no layer of ``modules`` is left out, and counted in the error.

    Args:
        trained: LDM name → weight, on any device; asked for one after the other.
        base: LDM name → weight of the base, of the same number of elements; it is computed where these are.
        modules: LDM name of a linear layer's or convolution's weight → its name in the file ("lora_unet_…").
        on_weight: told (done, total) before each weight; what it raises ends the work.
        dtype: of the tensors; the error is that of what they hold in it.
        rounded: whether a weight that is the base's own, rounded to a narrower type, counts as no change.
    """
    tensors: dict[str, torch.Tensor] = {}
    whole = lost = size = 0.0
    ranks: list[int] = []
    for done, (name, value) in enumerate(trained.items()):
        on_weight(done, len(trained))
        own = base[name].detach().reshape(value.shape)
        size += float(own.float().square().sum())
        if rounded and _is_rounded(value, own):
            continue
        delta = value.detach().to(own.device, torch.float32) - own.float()
        square = float(delta.square().sum())
        whole += square
        if square == 0.0:
            continue
        if name not in modules:
            lost += square
            continue
        down, up = (factor.to(dtype) for factor in _factors(delta, keep))
        lost += float((delta.flatten(1) - up.float().flatten(1) @ down.float().flatten(1)).square().sum())
        module, rank = modules[name], down.shape[0]
        tensors[f"{module}.lora_down.weight"], tensors[f"{module}.lora_up.weight"] = down.cpu(), up.cpu()
        tensors[f"{module}.alpha"] = torch.tensor(float(rank), dtype=dtype)
        ranks.append(rank)
    return Extraction(tensors, (lost / whole) ** 0.5 if whole else 0.0, (whole / size) ** 0.5 if size else 0.0, tuple(ranks))


def _is_rounded(value: torch.Tensor, own: torch.Tensor) -> bool:
    return value.element_size() < own.element_size() and torch.equal(own.to(value.dtype), value.to(own.device))


def _factors(delta: torch.Tensor, keep: Keep) -> tuple[torch.Tensor, torch.Tensor]:
    """(down, up) whose product is nearest to a difference [out, in] or [out, in, h, w]; √σ goes to each side."""
    flat = delta.flatten(1)
    down, up = _of_rank(flat, min(keep.rank or 1, *flat.shape)) if keep.share is None else low_rank.of_matrix(flat, keep)
    if delta.ndim == 4:
        return down.reshape(len(down), *delta.shape[1:]).contiguous(), up.reshape(*up.shape, 1, 1).contiguous()
    return down.contiguous(), up.contiguous()


def _of_rank(flat: torch.Tensor, rank: int) -> low_rank.Factors:
    """Of a rank that is known before, the randomised decomposition is enough, and takes a tenth of the time."""
    # `manual_seed` reaches every card, so the states of all of them are kept.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []):
        torch.manual_seed(0)
        u, s, v = torch.svd_lowrank(flat, q=min(rank + _OVERSAMPLING, *flat.shape), niter=_ITERATIONS)
    root = s[:rank].sqrt()
    return (v[:, :rank] * root).t(), u[:, :rank] * root
