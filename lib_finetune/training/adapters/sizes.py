"""Sizes of patches, computed from the shapes of the patched weights, without making the patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import nn

from lib_finetune.training.adapters.adapter import AdapterOptions, Target

Shape = tuple[int, ...]


def file_shapes(adapter: str, roots: Mapping[str, nn.Module], targets: Sequence[Target], options: AdapterOptions) -> dict[str, Shape]:
    """Name in the file → shape of every tensor that `Adapter.state` would hold; nothing is computed and no random number drawn.

    Args:
        adapter: of `SHAPES`.
        roots: "unet" and "text" of a view, which may lie on the meta device.
    """
    shapes: dict[str, Shape] = {}
    for target in targets:
        weight = tuple(roots[target.part].get_submodule(target.module).weight.shape)
        for name, shape in SHAPES[adapter](weight, target.rank, options.factor).items():
            shapes[f"{target.kohya}.{name}"] = shape
    return shapes


def _lora(weight: Shape, rank: int, _factor: int) -> dict[str, Shape]:
    kernel = weight[2:]
    return {"lora_down.weight": (rank, *weight[1:]), "lora_up.weight": (weight[0], rank, *(1 for _ in kernel)), "alpha": ()}


def _loha(weight: Shape, rank: int, _factor: int) -> dict[str, Shape]:
    wide = _product(weight[1:])
    halves = ("hada_w1", "hada_w2")
    sides = {f"{half}_{side}": shape for half in halves for side, shape in (("a", (weight[0], rank)), ("b", (rank, wide)))}
    return {**sides, "alpha": ()}


def _lokr(weight: Shape, rank: int, factor: int) -> dict[str, Shape]:
    (out_small, out_large), (in_small, in_large) = _split(weight[0], factor), _split(weight[1], factor)
    kernel = weight[2:]
    shapes: dict[str, Shape] = {"lokr_w1": (out_small, in_small), "alpha": ()}
    if rank >= max(out_large, in_large) / 2:
        return {**shapes, "lokr_w2": (out_large, in_large, *kernel)}
    return {**shapes, "lokr_w2_a": (out_large, rank), "lokr_w2_b": (rank, in_large * _product(kernel))}


SHAPES: dict[str, Callable[[Shape, int, int], dict[str, Shape]]] = {"lora": _lora, "loha": _loha, "lokr": _lokr}
"""Adapter → (shape of the weight, rank, factor) → name and shape of each tensor of its patch."""


def _split(width: int, factor: int) -> tuple[int, int]:
    """A width as a product of two, the smaller first and, if possible, at most ``factor``: lycoris' `factorization`."""
    if width % factor == 0:
        return min(factor, width // factor), max(factor, width // factor)
    small = max(part for part in range(1, min(factor, int(width**0.5)) + 1) if width % part == 0)
    return small, width // small


def _product(numbers: Sequence[int]) -> int:
    result = 1
    for number in numbers:
        result *= number
    return result
