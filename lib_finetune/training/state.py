"""The full state of a run in one file, so that a killed run resumes to exactly the same losses.

safetensors holds the tensors; everything else is JSON in its header. Nothing is unpickled, and the file is whole or absent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lib_finetune.errors import InputError, Problem
from lib_finetune.model import tensor_file

_FORM = "finetune-state-1"


def save(path: Path, value: dict[str, Any]) -> None:
    """Write nested dicts, lists, tuples, numbers, strings and tensors.

    Raises:
        SaveError: the disk is full or the folder cannot be written; an older state at ``path`` is kept.
    """
    tensors: dict[str, torch.Tensor] = {}
    plain = _encode(value, tensors)
    entries = {name: tensor_file.entry(tensor) for name, tensor in tensors.items()}
    text = json.dumps(plain)
    tensor_file.write(path, entries, {"form": _FORM, "value": text, "digest": _digest(text)})


def load(path: Path) -> dict[str, Any]:
    """The inverse of `save`; tensors are on the CPU.

    Raises:
        InputError: the file is missing, broken or of another form.
    """
    return _read(path, whole=True)


def outline(path: Path) -> dict[str, Any]:
    """As `load`, with None in place of each tensor: only the header is read.

    Raises:
        InputError: as `load`.
    """
    return _read(path, whole=False)


def _read(path: Path, *, whole: bool) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) if whole else None for name in file.keys()}  # noqa: SIM118  not a dict
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from error
    if header.get("form") != _FORM:
        raise InputError([Problem("", f"{path} is not a saved state of this version of Finetune; start the run anew.")])
    if header.get("digest", _digest(header.get("value", ""))) != _digest(header.get("value", "")):  # older states have none
        raise _damaged(path, "its header is not what was written")
    try:
        decoded: dict[str, Any] = _decode(json.loads(header["value"]), tensors)
    except (KeyError, ValueError, TypeError, StopIteration, RecursionError) as error:
        raise _damaged(path, f"its header: {error!r}") from error
    if not isinstance(decoded, dict):
        raise _damaged(path, "its header holds no run")
    return decoded


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _damaged(path: Path, reason: object) -> InputError:
    return InputError([Problem("", f"The saved state {path} cannot be read ({reason}); start the run anew.")])


def _encode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        name = f"t{len(tensors)}"
        tensors[name] = value.detach()
        return {"tensor": name}
    if isinstance(value, dict):
        # Pairs, because JSON knows no number as a key and optimizers use them.
        return {"dict": [[key, _encode(inner, tensors)] for key, inner in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_encode(inner, tensors) for inner in value]}
    return value


def _decode(value: Any, tensors: Mapping[str, torch.Tensor | None]) -> Any:
    if not isinstance(value, dict):
        return value
    kind, inner = next(iter(value.items()))
    if kind == "tensor":
        return tensors[inner]
    if kind == "dict":
        return {key: _decode(item, tensors) for key, item in inner}
    items = [_decode(item, tensors) for item in inner]
    return tuple(items) if kind == "tuple" else items
