"""A kohya file of the LoRA family added to the weights it belongs to; for pictures without the WebUI."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch

from lib_finetune.errors import InputError, Problem
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.names import kohya_module
from lib_finetune.model.shapes import interchangeable


def merged(
    tensors: Mapping[str, torch.Tensor], model: BorrowedModel, file: Mapping[str, torch.Tensor], weight: float, field: str = "lora"
) -> dict[str, torch.Tensor]:
    """The checkpoint's tensors with a file's patches added; tensors without a patch are the same objects.

    Args:
        tensors: LDM names, as in `ports.Lease.tensors`.
        model: a view without adapters, for the names.
        file: the file's tensors, kohya names.
        weight: multiplier of the patches.

    Raises:
        InputError: a module of the file is not in the model, or its kind is not read here.
    """
    places = {_kohya_of(view): ldm for view, ldm in model.sources().items() if view.endswith(".weight") and not view.startswith("vae.")}
    result = dict(tensors)
    for module, parts in by_module(file).items():
        if module not in places:
            raise InputError([Problem(field, f"the model has no module {module}; the file is for another family of models.")])
        base = result[places[module]]
        result[places[module]] = (base.float() + weight * delta(parts, base.shape, base.device, field)).to(base.dtype)
    return result


def by_module(file: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """Tensors of a kohya file, grouped: module → part → tensor (split at the first dot, as the WebUI does)."""
    modules: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for key, value in file.items():
        module, _, part = key.partition(".")
        modules[module][part] = value
    return dict(modules)


def delta(parts: Mapping[str, torch.Tensor], shape: torch.Size, device: torch.device, field: str = "lora") -> torch.Tensor:
    """The change of a weight, float32, of the weight's shape.

    Raises:
        InputError: parts of a kind that is not read here.
    """
    values = {name: value.to(device, torch.float32) for name, value in parts.items()}
    if "lora_up.weight" in values and "lora_mid.weight" not in values:
        down, up = values["lora_down.weight"], values["lora_up.weight"]
        return _scale(values, down.shape[0]) * _of_shape(_product(up.flatten(1), down.flatten(1), field), shape, down.shape, field)
    if "hada_w1_a" in values and "hada_t1" not in values:
        product = (values["hada_w1_a"] @ values["hada_w1_b"]) * (values["hada_w2_a"] @ values["hada_w2_b"])
        return _scale(values, values["hada_w1_b"].shape[0]) * _of_shape(product, shape, None, field)
    if "lokr_w1" in values and ("lokr_w2" in values or "lokr_w2_a" in values):
        return _of_shape(_kronecker(values), shape, None, field)
    raise InputError([Problem(field, f"a patch of the parts {', '.join(sorted(parts))} is not read here; LoRA, LoCon, LoHa and LoKr are.")])


def _product(up: torch.Tensor, down: torch.Tensor, field: str) -> torch.Tensor:
    if up.shape[1] != down.shape[0]:
        raise InputError([Problem(field, f"a patch of rank {up.shape[1]} does not fit one of rank {down.shape[0]}; the file is broken.")])
    return up @ down


def _of_shape(change: torch.Tensor, shape: torch.Size, kernel: torch.Size | None, field: str) -> torch.Tensor:
    """The change as a tensor of the weight's shape, whose rows, columns and kernel must be the patch's own."""
    rows, rest = shape[0], shape[1:]
    fits = change.shape[0] == rows and change.numel() == shape.numel()
    if kernel is not None:
        fits = fits and interchangeable((rows, *kernel[1:]), tuple(shape))
    elif change.dim() > 2:
        fits = fits and interchangeable(tuple(change.shape), tuple(shape))
    if not fits:
        sizes = f"{rows}×{'×'.join(map(str, rest))}"
        message = (
            f"a patch of {change.shape[0]} rows and {change.numel()} numbers does not fit a weight of {sizes}; it is of another family."
        )
        raise InputError([Problem(field, message)])
    return change.reshape(shape)


def _scale(values: Mapping[str, torch.Tensor], rank: int) -> float:
    return float(values["alpha"]) / rank if "alpha" in values else 1.0


def _kronecker(values: Mapping[str, torch.Tensor]) -> torch.Tensor:
    if "lokr_w2" in values:
        return _outer(values["lokr_w1"], values["lokr_w2"])
    inner = values["lokr_w2_a"] @ values["lokr_w2_b"]
    return _scale(values, values["lokr_w2_b"].shape[0]) * _outer(values["lokr_w1"], inner)


def _outer(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    while first.dim() < second.dim():
        first = first.unsqueeze(-1)
    return torch.kron(first.contiguous(), second.contiguous())


def _kohya_of(view: str) -> str:
    part, _, rest = view.partition(".")
    return kohya_module(part, rest.removesuffix(".weight"))
