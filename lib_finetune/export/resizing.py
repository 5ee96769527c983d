"""A LoRA with narrower patches: each of its products is brought to the rank that is asked for, or that keeps a share of its change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from lib_finetune.errors import InputError, Problem
from lib_finetune.export import low_rank
from lib_finetune.export.low_rank import Keep
from lib_finetune.model.lora_change import BIAS_PARTS, delta
from lib_finetune.model.lora_merge import by_module

_PAIR = {"lora_down.weight", "lora_up.weight"}
_MORE = {"lora_mid.weight", "alpha", "scale", *BIAS_PARTS}
_AS_IT_IS = {"diff", "w_norm", *BIAS_PARTS}
"""Parts that have no rank: differences of whole weights and of biases."""
_KINDS = {"hada_": "LoHa", "lokr_": "LoKr", "dora_scale": "DoRA", "on_input": "IA3", "oft_": "OFT"}


@dataclass(frozen=True)
class Resized:
    """
    Attributes:
        tensors: of kohya's LoRA file.
        error: how much of the whole change is lost: ‖Δ − Δ'‖ / ‖Δ‖ over all products, 0 to 1.
        before, after: ranks of the patches.
    """

    tensors: dict[str, torch.Tensor]
    error: float
    before: tuple[int, ...]
    after: tuple[int, ...]


def resize(
    patches: Mapping[str, torch.Tensor],
    keep: Keep,
    dtype: torch.dtype,
    name: str,
    field: str,
    on_module: Callable[[int, int], None] = lambda _done, _total: None,
) -> Resized:
    """The patches at other ranks; parts without a rank stay as they are.

    Args:
        patches: of a LoRA file, kohya names, without its words.
        dtype: of the tensors; the error is that of what they hold in it.
        name: of the file, and the ``field`` that a problem is reported under.
        on_module: told (done, total) before each module; what it raises ends the work.

    Raises:
        InputError: a patch that is no pair of matrices, by its module and kind.
    """
    modules = by_module(patches)
    for module, parts in modules.items():
        _refuse_other_kinds(module, parts, name, field)
    tensors: dict[str, torch.Tensor] = {}
    whole = lost = 0.0
    before, after = [], []
    for done, (module, parts) in enumerate(modules.items()):
        on_module(done, len(modules))
        tensors |= {f"{module}.{part}": parts[part].to(dtype) for part in parts if part in _AS_IT_IS}
        if not parts.keys() >= _PAIR:
            continue
        (down, up), square, rest = _narrowed(parts, keep, dtype, field)
        whole, lost = whole + square, lost + rest
        tensors[f"{module}.lora_down.weight"], tensors[f"{module}.lora_up.weight"] = down, up
        tensors[f"{module}.alpha"] = torch.tensor(float(down.shape[0]), dtype=dtype)
        before.append(parts["lora_down.weight"].shape[0])
        after.append(down.shape[0])
    return Resized(tensors, (lost / whole) ** 0.5 if whole else 0.0, tuple(before), tuple(after))


def _refuse_other_kinds(module: str, parts: Mapping[str, torch.Tensor], name: str, field: str) -> None:
    pair = parts.keys() >= _PAIR
    if (pair and parts.keys() <= _PAIR | _MORE) or (not pair and parts.keys() <= _AS_IT_IS):
        return
    strange = sorted(parts.keys() - _PAIR - _MORE) or sorted(parts)
    kind = next((kind for start, kind in _KINDS.items() if any(part.startswith(start) for part in parts)), "")
    called = f"a {kind}" if kind else f"a patch with {', '.join(strange)}"
    message = f"{name} holds {called} ({module}), whose rank cannot be changed. Name a LoRA or LoCon."
    raise InputError([Problem(field, message)])


def _narrowed(
    parts: Mapping[str, torch.Tensor], keep: Keep, dtype: torch.dtype, field: str
) -> tuple[tuple[torch.Tensor, torch.Tensor], float, float]:
    """((down, up), ‖Δ‖², ‖Δ − Δ'‖²) of a pair of matrices, with what scales them inside."""
    old_down, old_up = parts["lora_down.weight"], parts["lora_up.weight"]
    kernel = parts["lora_mid.weight"].shape[2:] if "lora_mid.weight" in parts else old_down.shape[2:]
    shape = torch.Size((old_up.shape[0], old_down.shape[1], *kernel))
    own = {part: value for part, value in parts.items() if part not in BIAS_PARTS}
    change = delta(own, shape, torch.device("cpu"), field).flatten(1)
    if "lora_mid.weight" in parts:
        down, up = low_rank.of_matrix(change, keep)
    else:
        scale = float(parts["scale"]) if "scale" in parts else float(parts["alpha"]) / len(old_down) if "alpha" in parts else 1.0
        down, up = low_rank.of_product(old_up.float().flatten(1) * scale, old_down.float().flatten(1), keep)
    down, up = down.to(dtype), up.to(dtype)
    rest = float((change - up.float() @ down.float()).square().sum())
    whole_down = down.reshape(len(down), *shape[1:]).contiguous()
    return (whole_down, up.reshape(*up.shape, *[1] * len(kernel)).contiguous()), float(change.square().sum()), rest
