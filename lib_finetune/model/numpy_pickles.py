"""Arrays of NumPy inside a pickle, rebuilt as tensors from their bytes; nothing of NumPy's own is called.

Reference: NumPy's ``ndarray.__reduce__`` and ``dtype.__reduce__``.
"""

from __future__ import annotations

import sys
from typing import Any

import torch

from lib_finetune.model.unpickler import Inert, Known, UnpicklingError

_TYPES = {
    "f8": torch.float64, "f4": torch.float32, "f2": torch.float16, "i8": torch.int64, "i4": torch.int32, "i2": torch.int16, "i1": torch.int8,
    "u1": torch.uint8, "b1": torch.bool,
}  # fmt: skip
_NATIVE = ("|", "=", "<" if sys.byteorder == "little" else ">")


class NumberType:
    """Stands for ``numpy.dtype``."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "="

    def restore(self, state: Any) -> None:
        """Takes the order of bytes."""
        if type(state) is tuple and len(state) > 1 and isinstance(state[1], str):
            self.order = state[1]


class Array:
    """Stands for ``numpy.ndarray``.

    Attributes:
        tensor: None until the pickle has told of its content, and where that is no numbers.
    """

    def __init__(self) -> None:
        self.tensor: torch.Tensor | None = None

    def restore(self, state: Any) -> None:
        """
        Raises:
            UnpicklingError: size and content do not fit each other.
        """
        if type(state) is not tuple or len(state) != 5:
            raise UnpicklingError("it is broken: an array of NumPy tells its content in an unknown way")
        _, shape, kind, by_columns, data = state
        if not isinstance(kind, NumberType) or kind.code not in _TYPES or not isinstance(data, bytes):
            return
        if type(shape) is not tuple or any(type(side) is not int or side < 0 for side in shape):
            raise UnpicklingError("it is broken: the shape of an array of NumPy is no numbers")
        dtype, count = _TYPES[kind.code], int(torch.Size(shape).numel())
        if kind.order not in _NATIVE or count * dtype.itemsize != len(data):
            raise UnpicklingError(
                "it is broken, or of a machine with another order of bytes: an array of NumPy has another size than it tells"
            )
        flat = torch.frombuffer(bytearray(data), dtype=dtype) if count else torch.empty(0, dtype=dtype)
        self.tensor = flat.reshape(shape[::-1]).permute(*range(len(shape) - 1, -1, -1)) if by_columns else flat.reshape(shape)


def _type(code: Any, *_: Any) -> Any:
    return NumberType(code) if isinstance(code, str) else Inert("numpy.dtype")


KNOWN = {
    ("numpy", "dtype"): Known("dtype", _type),
    **{(f"numpy.{core}.multiarray", "_reconstruct"): Known("_reconstruct", lambda *_: Array()) for core in ("core", "_core")},
}
"""What an array is made of. Single numbers of NumPy ("scalar") are no part of a model, and stay inert."""
