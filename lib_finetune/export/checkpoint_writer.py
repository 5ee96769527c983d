"""A whole checkpoint in the original SD layout: what was trained in the chosen precision, all else streamed from the base file.

Reference: ``sd_models.py`` of the WebUI (what it accepts); ``sd15_checkpoint_keys`` of the project's formats.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from lib_finetune import __version__
from lib_finetune.errors import CheckpointError, Problem, SaveError
from lib_finetune.export.metadata import Recipe, usage_hint
from lib_finetune.files import replacing
from lib_finetune.model import file_kinds, tensor_file, weights_file
from lib_finetune.model.checkpoint_reader import ldm_name, sha256
from lib_finetune.model.shapes import reshaped
from lib_finetune.model.tensor_file import Entry

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
_AVERAGE = "model_ema."
_READ_BY_WEBUI = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8)
"""Types of tensors that the WebUI's unpickler lets pass, all of which the older form of ``torch.save`` has."""


def write(path: Path, trained: Mapping[str, torch.Tensor], base: Mapping[str, Entry], metadata: Mapping[str, str], precision: str) -> None:
    """Write a checkpoint; the path's ending chooses the form.

    Args:
        trained: LDM name → tensor on any device.
        base: every tensor of the base file by its name there, from `opened`.
        precision: of what was trained, "fp16", "bf16" or "fp32".

    Raises:
        SaveError: a value does not fit the precision or is not finite, the disk is full, the folder is not writable.
    """
    if missing := sorted(trained.keys() - {ldm_name(name) for name in base}):
        raise SaveError(f"{path.name} was not written: the base checkpoint has no {missing[0]}, which was trained. Keep the saved state.")
    entries = {name: _entry(path, name, each, trained, DTYPES[precision]) for name, each in base.items()}
    if path.suffix == ".safetensors":
        tensor_file.write(path, entries, metadata)
        return
    with replacing(path) as file:
        # The WebUI's unpickler refuses the zip members that torch 2.6 and later write.
        state = {name: _storable(each.value()).contiguous() for name, each in entries.items()}
        torch.save({"state_dict": state}, file, _use_new_zipfile_serialization=False)


def _storable(value: torch.Tensor) -> torch.Tensor:
    """The same numbers in a type that a ``.ckpt`` may have; what an 8-bit float can be, fp16 or fp32 is as well."""
    if value.dtype in _READ_BY_WEBUI:
        return value
    if value.dtype.is_floating_point:
        return value.float() if "e8m0" in str(value.dtype) else value.half()
    return value.to(torch.int64)


def _entry(path: Path, name: str, base: Entry, trained: Mapping[str, torch.Tensor], dtype: torch.dtype) -> Entry:
    value = trained.get(ldm_name(name))
    return base if value is None else Entry(dtype, base.shape, lambda: _cast(path, name, value, dtype, base.shape))


def _cast(path: Path, name: str, value: torch.Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    cast = reshaped(name, value.detach().to("cpu", dtype), shape, "what was trained")
    if not bool(torch.isfinite(cast).all()):
        whole = bool(torch.isfinite(value).all())
        reason = (
            f"does not fit {dtype}".replace("torch.", "") + "; save in bf16 or fp32" if whole else "is not finite; the training went wrong"
        )
        raise SaveError(f"{path.name} was not written: {name} {reason}.")
    return cast


@contextmanager
def opened(path: Path) -> Iterator[dict[str, Entry]]:
    """The tensors of a checkpoint file as entries that are read when they are written; without the average ``model_ema``.

    A ``.ckpt`` is mapped into memory where its form allows it, and read as a whole otherwise.

    Raises:
        CheckpointError: it is missing or broken, or its weights are packed or scaled.
    """
    with weights_file.opened(path, "checkpoint") as weights:
        if part := file_kinds.quantised(weights.tensors):
            message = (
                f"{path.name} holds its weights in a packed or scaled form (the part {part}). Use the fp16, bf16 or fp32 version of it."
            )
            raise CheckpointError([Problem("checkpoint", message)])
        for name in [name for name in weights.tensors if name.startswith(_AVERAGE)]:
            del weights.tensors[name]
        yield weights.tensors


def usable(path: Path | None, digits: str | None) -> bool:
    """Whether the base file is there and still the one that training began on.

    Args:
        digits: its SHA-256 then.
    """
    return path is not None and path.is_file() and digits is not None and sha256(path) == digits


def metadata(recipe: Recipe, classes: str) -> dict[str, str]:
    """Metadata of a checkpoint, by modelspec 1.0.0; strings only, no private paths.

    Args:
        classes: "" or how the class was kept.
    """
    values = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "stable-diffusion-v1",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": recipe.name,
        "modelspec.resolution": f"{recipe.resolution}x{recipe.resolution}",
        "modelspec.date": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()),
        "modelspec.prediction_type": "v" if recipe.prediction == "v_prediction" else "epsilon",
        "modelspec.trigger_phrase": recipe.trigger,
        "modelspec.usage_hint": usage_hint(recipe.clip_skip),
        "ss_clip_skip": str(recipe.clip_skip),
        "finetune_version": __version__,
        "finetune_base": recipe.checkpoint,
        "finetune_base_sha256": recipe.checkpoint_sha256 or "",
        "finetune_steps": str(recipe.steps),
        "finetune_prior": classes,
        "finetune_settings": recipe.settings,
    }
    return {name: value for name, value in values.items() if value}
