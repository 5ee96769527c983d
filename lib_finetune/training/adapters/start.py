"""The start of an adapter from the patches of a kohya file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from lib_finetune.errors import InputError, Problem
from lib_finetune.model.lora_merge import by_module
from lib_finetune.model.names import KOHYA_TEXT, KOHYA_UNET
from lib_finetune.model.shapes import interchangeable
from lib_finetune.training.adapters.adapter import Adapter

FIELD = "network.start"
Patches = Mapping[str, torch.Tensor]
_KINDS: dict[frozenset[str], str] = {
    frozenset({"lora_down.weight", "lora_up.weight"}): "lora",
    frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}): "loha",
    frozenset({"lokr_w1", "lokr_w2"}): "lokr",
    frozenset({"lokr_w1", "lokr_w2_a", "lokr_w2_b"}): "lokr",
}
"""Parts of a module besides alpha → adapter."""
_NARROW = ("lora_down.weight", "hada_w1_b", "lokr_w2_b")
"""Parts whose first side is the rank."""
_OURS = re.compile(f"{KOHYA_UNET}(down_blocks_|mid_block_|up_blocks_)|{KOHYA_TEXT}")
_ATTENTION = ("to_q", "to_k", "to_v", "to_out_0")
_LARGE = ("_conv1", "_conv2", "samplers_0_conv")
_ROUNDED = 4e-3
"""The largest relative error of an alpha in bf16."""


def demands(patches: Patches, name: str) -> dict[str, Any]:
    """Setting → the value that it must have so that an adapter can begin with these patches.

    Args:
        patches: tensors of a kohya file.
        name: of the file, for messages.

    Raises:
        InputError: an adapter cannot begin with a file of this kind or family.
    """
    modules = by_module(patches)
    kind = _kind(modules, name)
    _look_at_names(modules, name)
    unet = [module for module in modules if module.startswith(KOHYA_UNET)]
    plain = [module for module in modules if not _is_large(module)]
    large = [module for module in modules if _is_large(module)]
    if not unet:
        raise _refused(f"{name} has no patches of the UNet, which are always trained here. Name another file.")
    wide = any("_attentions_" in module and not module.endswith(_ATTENTION) for module in unet)
    demanded: dict[str, Any] = {"network.adapter": kind, "network.targets": "all" if wide else "attention"}
    demanded["network.text_encoder"] = len(unet) < len(modules)
    demanded |= _one_size((modules[module] for module in plain), "network.rank", "network.alpha", name)
    demanded["network.conv_rank"] = 0
    return demanded | _one_size((modules[module] for module in large), "network.conv_rank", "network.conv_alpha", name)


def _kind(modules: Mapping[str, Patches], name: str) -> str:
    kinds: dict[str | None, str] = {}
    for module, parts in modules.items():
        kinds.setdefault(_KINDS.get(frozenset(parts) - {"alpha"}), f"{module} has {_named(parts)}")
    if None in kinds or len(kinds) != 1:
        example = kinds.get(None, "it holds several kinds" if kinds else "it holds none")
        raise _refused(f"{name} is no LoRA, LoCon, LoHa or LoKr in kohya's form ({example}). Name another file.")
    return next(str(kind) for kind in kinds)


def _named(parts: Iterable[str]) -> str:
    """Parts that no adapter of ours has; all parts if each of them is known but their combination is not."""
    known = frozenset({"alpha"}).union(*_KINDS)
    return ", ".join(sorted(set(parts) - known) or sorted(parts))


def _look_at_names(modules: Iterable[str], name: str) -> None:
    for module in modules:
        if not _OURS.match(module):
            raise _refused(f"{name} is for another family of models than Stable Diffusion 1.x: it patches {module}. Name another file.")


def _is_large(module: str) -> bool:
    """Whether a module is a 3×3 convolution, by its name."""
    return module.startswith(KOHYA_UNET) and "_attentions_" not in module and module.endswith(_LARGE)


def _one_size(modules: Iterable[Patches], rank_field: str, alpha_field: str, name: str) -> dict[str, Any]:
    """Setting → the rank or the alpha that all patches share; a setting is missing if no patch states its value."""
    ranks, alphas = set(), set()
    for parts in modules:
        narrow = next((parts[part] for part in _NARROW if part in parts), None)
        if narrow is None and "alpha" in parts:  # a LoKr whose second factor is whole: lycoris writes the rank as alpha
            ranks.add(round(float(parts["alpha"])))
        elif narrow is not None:
            ranks.add(len(narrow))
            alphas.add(float(parts["alpha"]) if "alpha" in parts else float(len(narrow)))
    for values, what in ((ranks, "ranks"), (alphas, "alphas")):
        if len(values) > 1:
            listed = ", ".join(f"{value:g}" for value in sorted(values))
            raise _refused(f"{name} has patches of several {what} ({listed}); one for all is trained here. Name another file.")
    return {field: value for field, values in ((rank_field, ranks), (alpha_field, alphas)) for value in values}


def agrees(present: Any, demanded: Any) -> bool:
    """Whether a setting has the value that a file demands, up to the file's precision."""
    return math.isclose(present, demanded, rel_tol=_ROUNDED) if isinstance(demanded, float) else present == demanded


@torch.no_grad()
def begin(adapter: Adapter, patches: Patches, name: str) -> None:
    """Put a file's patches into an adapter that meets its `demands`, so that it has the effect of the file.

    Raises:
        InputError: the file belongs to another model or is broken.
    """
    own = adapter.state()
    theirs, ours = by_module(patches), by_module(own)
    if others := sorted(theirs.keys() ^ ours.keys()):
        lacks = "patches" if others[0] in theirs else "does not patch"
        raise _refused(f"{name} does not fit the loaded model and these settings: it {lacks} {others[0]}. Name another file.")
    weights = {**adapter.parameters("unet"), **adapter.parameters("text")}
    for key, weight in weights.items():
        patch = patches.get(key)
        if patch is None or not interchangeable(tuple(patch.shape), tuple(weight.shape)):
            raise _misfit(patches, name, key)
        if not bool(torch.isfinite(patch).all()):
            raise _refused(f"{name} is broken: {key} is not finite. Name another file.")
        weight.copy_(patch.reshape(weight.shape))  # some trainers write a 1×1 convolution as a matrix


def _misfit(patches: Patches, name: str, key: str) -> InputError:
    splits = [max(value.shape) for part, value in patches.items() if part.endswith(".lokr_w1")]
    if splits:
        return InputError([Problem("network.factor", f"is not that of {name}, which looks like {max(splits)}. Set it to {max(splits)}.")])
    return _refused(f"{name} belongs to another family of models than the loaded one: {key} is of another size. Name another file.")


def _refused(message: str) -> InputError:
    return InputError([Problem(FIELD, message)])
