"""kohya's LoRA file: tensors in the chosen precision, metadata, written whole or not at all."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from lib_finetune.errors import InputError, Problem, SaveError
from lib_finetune.export import bundled_word
from lib_finetune.files import standing, write_atomically
from lib_finetune.model import weights_file
from lib_finetune.model.soundness import not_finite
from lib_finetune.model.tensor_file import Entry

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
_NUMBERS = ("alpha", "scale", "on_input")
"""Parts that are one number."""
_KOHYA = re.compile(r"lora_(unet|te1?)_[^.]+\.|bundle_emb\.[^.]+\.string_to_param\.")


def refuse_taken(path: Path, overwrite: bool | None) -> None:
    """
    Args:
        overwrite: whether it may be replaced; None where that is not asked.

    Raises:
        InputError: a file stands at ``path`` and may not be replaced; a free name is proposed.
    """
    if standing(path) and not overwrite:
        number = next(n for n in range(2, 10_000) if not standing(path.with_name(f"{path.stem}-{n}{path.suffix}")))
        message = (
            f"{path.name} exists already in {path.parent}. Choose another name, for example {path.stem}-{number}"
            f"{'.' if overwrite is None else ', or allow overwriting.'}"
        )
        raise InputError([Problem("name", message)])


def write(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
    precision: str,
    words: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write a LoRA file.

    Args:
        tensors: names of kohya's format, float32.
        metadata: `export.metadata.lora_metadata`; the hashes of the tensors are added here.
        precision: "fp16", "bf16" or "fp32".
        words: word → [vectors, width], bundled as they are, in float32.

    Raises:
        SaveError: a value does not fit the precision or is not finite, the disk is full, the folder is not writable.
    """
    from safetensors.torch import save

    cast = {name: value.detach().to("cpu", _DTYPES[precision]).contiguous() for name, value in tensors.items()}
    cast |= {bundled_word.key(word): value.detach().to("cpu", torch.float32).contiguous() for word, value in (words or {}).items()}
    for name, value in cast.items():
        if not bool(torch.isfinite(value).all()):
            whole = name in tensors and bool(torch.isfinite(tensors[name]).all())
            reason = f"does not fit {precision}; save in bf16 or fp32" if whole else "is not finite; the training went wrong"
            raise SaveError(f"{path.name} was not written: {name} {reason}.")
    write_atomically(path, save(cast, {**metadata, **_hashes(save(cast))}))


def _hashes(content: bytes) -> dict[str, str]:
    """The hashes by which tools know a LoRA whatever its metadata are: of the bytes behind the header, and of one window of them."""
    header = 8 + int.from_bytes(content[:8], "little")
    whole = hashlib.sha256(content[header:]).hexdigest()
    legacy = hashlib.sha256(content[0x100000 : 0x100000 + 0x10000]).hexdigest()[:8]
    return {"sshs_model_hash": whole, "sshs_legacy_hash": legacy, "modelspec.hash_sha256": f"0x{whole}"}


def read(path: Path, field: str) -> dict[str, torch.Tensor]:
    """The tensors of a LoRA file of SD1.x in kohya's form, on the CPU.

    Args:
        field: what a problem is reported under.

    Raises:
        InputError: missing, broken, or of another kind, form or family, by name.
    """
    weights_file.refuse_absent(path, field, "Name a LoRA file, or leave it empty.")
    with weights_file.opened(path, field) as weights:
        weights_file.refuse_other_kinds(path, field, weights, "LoRA")
        _refuse_other_forms(path, field, weights.tensors)
        _refuse_broken_numbers(path, field, weights.tensors)
        # A copy: what is mapped keeps the file open, and Windows then lets nobody replace it.
        tensors = {name: _plain(entry.value()).clone() for name, entry in weights.tensors.items()}
    if wrong := not_finite(tensors):
        raise InputError([Problem(field, f"{path.name} is damaged: {wrong} holds NaN or infinity. Name another file.")])
    return tensors


def _plain(value: torch.Tensor) -> torch.Tensor:
    """Of a type that torch reckons with."""
    return value if value.dtype in (*_DTYPES.values(), torch.float64) else value.float()


def _refuse_other_forms(path: Path, field: str, names: Iterable[str]) -> None:
    """
    Raises:
        InputError: a name is not kohya's, so that it would be passed over.
    """
    other = next((name for name in names if not _KOHYA.match(name)), None)
    if other is not None:
        message = (
            f"{path.name} is a LoRA in another form than kohya's (diffusers', peft's or a form of its own): it holds {other}, which the WebUI "
            "passes over. Convert it to kohya's form (diffusers' convert_state_dict_to_kohya does), or name another file."
        )
        raise InputError([Problem(field, message)])


def _refuse_broken_numbers(path: Path, field: str, entries: Mapping[str, Entry]) -> None:
    """
    Raises:
        InputError: what should be one number is several, what should be a matrix is one, or there is nothing.
    """
    for name, entry in entries.items():
        single = name.rpartition(".")[2] in _NUMBERS
        if (single and torch.Size(entry.shape).numel() != 1) or (not single and (not entry.shape or 0 in entry.shape)):
            raise InputError([Problem(field, f"{path.name} is broken: {name} has the sides {list(entry.shape)}. Name another file.")])
