"""Pickled checkpoints, read for their tensors alone: whatever else a file names becomes an inert stand-in, and nothing of it runs.

Old checkpoints carry objects of the program that trained them (Lightning's callbacks, the authors' own configurations). The WebUI
reads them with a list of what it trusts (its ``modules/safe.py``); torch's own strict reader refuses them.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

_KNOWN = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch.nn.parameter", "Parameter"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch.serialization", "_get_layout"),
    ("_codecs", "encode"),
    *((("torch", f"{kind}Storage")) for kind in ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool")),
    *((("torch", kind)) for kind in ("float16", "float32", "float64", "bfloat16", "int64")),
}
"""What a file of tensors is made of."""


class _Inert(dict[Any, Any]):
    """Takes whatever a pickle does to an object, and does nothing."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        super().__init__()

    def __hash__(self) -> int:  # type: ignore[override]
        """It may be a key, or in a set."""
        return id(self)

    def __setstate__(self, _state: Any) -> None:
        """Forget it."""

    def append(self, _value: Any) -> None:
        """As a list would."""

    def extend(self, _values: Any) -> None:
        """As a list would."""

    def add(self, _value: Any) -> None:
        """As a set would."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The thing itself where it is known to be harmless."""
        return super().find_class(module, name) if (module, name) in _KNOWN else _Inert


def _load(file: Any, **how: Any) -> Any:
    return _Unpickler(file, **how).load()


ERRORS = (OSError, EOFError, RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError, pickle.UnpicklingError)
"""What reading a broken or foreign file can raise."""
_READER = SimpleNamespace(__name__="lib_finetune.model.pickled", Unpickler=_Unpickler, load=_load)


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by their names, whether they lie under "state_dict" or at the top; on the CPU.

    Raises:
        ERRORS: it cannot be read.
    """
    content = load(path)
    state = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def load(path: Path) -> Any:
    """What ``torch.save`` wrote, on the CPU; mapped into memory where the file's form allows it.

    Raises:
        ERRORS: it cannot be read.
    """
    how: dict[str, Any] = {"map_location": "cpu", "weights_only": False, "pickle_module": _READER}
    try:
        return torch.load(path, mmap=True, **how)
    except (RuntimeError, ValueError):  # the older serialisation cannot be mapped
        return torch.load(path, **how)
