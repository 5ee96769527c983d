"""A kohya file of the LoRA family added to the weights it belongs to; for images without the WebUI."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch

from lib_finetune.errors import InputError, Problem
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.families import family
from lib_finetune.model.layout import UNET
from lib_finetune.model.lora_change import BIAS_PARTS, changed, changed_bias, delta
from lib_finetune.model.names import KOHYA_UNET, kohya_module

__all__ = ["by_module", "delta", "merged"]


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
        InputError: a module of the file is not in the model, or a part of it is not read here.
    """
    places = _places(model)
    result = dict(tensors)
    for module, parts in by_module(file).items():
        leaves = places.get(module.replace("lora_te1_", "lora_te_", 1))
        if leaves is None:
            raise InputError([Problem(field, _without_place(module, file))])
        biases = [part for part in BIAS_PARTS if part in parts]
        own = {name: value for name, value in parts.items() if name not in biases}
        if own or not biases:
            result[leaves["weight"]] = changed(result[leaves["weight"]], own, weight, field)
        for part in biases:
            if "bias" not in leaves:
                message = f"{module} has the part {part}, and that layer of the model has no bias; the file is for another model."
                raise InputError([Problem(field, message)])
            result[leaves["bias"]] = changed_bias(result[leaves["bias"]], parts[part], weight, field)
    return result


def _without_place(module: str, file: Mapping[str, torch.Tensor]) -> str:
    known = family({name: tuple(value.shape) for name, value in file.items()})
    of = f": {known.name}" if known else " of models"
    return f"the model has no module {module}; the file is for another family{of}. Use a LoRA of Stable Diffusion 1.x."


def _places(model: BorrowedModel) -> dict[str, dict[str, str]]:
    """A module's name in files → "weight" and "bias", where it has one → LDM name. Some trainers name the UNet's modules as LDM does."""
    places: dict[str, dict[str, str]] = defaultdict(dict)
    for view, ldm in model.sources().items():
        part, _, rest = view.partition(".")
        module, _, leaf = rest.rpartition(".")
        if part == "vae":
            continue
        places[kohya_module(part, module)][leaf] = ldm
        if part == "unet":
            places[KOHYA_UNET + ldm.removeprefix(UNET).rpartition(".")[0].replace(".", "_")][leaf] = ldm
    return dict(places)


def by_module(file: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """Tensors of a kohya file, grouped: module → part → tensor (split at the first dot, as the WebUI does)."""
    modules: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for key, value in file.items():
        module, _, part = key.partition(".")
        modules[module][part] = value
    return dict(modules)
