"""A ``.safetensors`` file read tensor by tensor, with a sentence for each thing that can be wrong with it.

Reference: the format in huggingface/safetensors, README.md ("Format"). The library itself knows fewer types of numbers in older versions,
and describes a broken file in its own words.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch

from lib_finetune.model.file_beginning import HEADER_AT_MOST
from lib_finetune.model.tensor_file import DTYPES, Entry

_AGAIN = "Download it again."


@contextmanager
def opened(path: Path) -> Iterator[tuple[dict[str, Entry], dict[str, str]]]:
    """(the tensors, which are read when they are asked for; the metadata). Outside, no tensor can be asked for.

    Raises:
        ValueError: it is broken or holds what cannot be read; the message follows the file's name.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        header, start = _header(file, path.stat().st_size)
        about_file = _metadata(header)
        held = path.stat().st_size - start
        yield {name: _entry(file, start, name, entry, held) for name, entry in header.items()}, about_file


def metadata(path: Path) -> dict[str, str]:
    """The metadata alone.

    Raises:
        ValueError, OSError: as `opened`.
    """
    with path.open("rb") as file:
        return _metadata(_header(file, path.stat().st_size)[0])


def _metadata(header: dict[str, Any]) -> dict[str, str]:
    """Taken out of the header."""
    values = header.pop("__metadata__", {})
    if not isinstance(values, dict):
        raise ValueError(f"cannot be read: its header is damaged. {_AGAIN}")  # noqa: TRY004  the file is wrong, no argument
    return {str(key): str(value) for key, value in values.items()}


def _header(file: BufferedReader, size: int) -> tuple[dict[str, Any], int]:
    """(the header, where the numbers begin)."""
    lead = file.read(8)
    length = struct.unpack("<Q", lead)[0] if len(lead) == 8 else 0
    if not 1 < length <= HEADER_AT_MOST:
        raise ValueError(f"cannot be read: its header is damaged. {_AGAIN}")
    if 8 + length > size:
        raise ValueError(f"cannot be read: it is half a download and ends after {_size(size)}, within its header. {_AGAIN}")
    try:
        header = json.loads(file.read(length).decode("utf-8"))
    except (ValueError, RecursionError):
        raise ValueError(f"cannot be read: its header is damaged. {_AGAIN}") from None
    if not isinstance(header, dict):
        raise ValueError(f"cannot be read: its header is damaged. {_AGAIN}")  # noqa: TRY004  the file is wrong, no argument
    return header, 8 + length


def _entry(file: BufferedReader, start: int, name: str, description: Any, held: int) -> Entry:
    """
    Args:
        start: where the numbers begin.
        description: what the header says of the tensor.
        held: so many bytes of numbers the file has.
    """
    about = description if isinstance(description, dict) else {}
    kind, shape, offsets = about.get("dtype"), _counts(about.get("shape")), _counts(about.get("data_offsets"))
    if not isinstance(kind, str) or shape is None or offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"cannot be read: what its header says of {name} is damaged. {_AGAIN}")
    if kind not in DTYPES:
        raise ValueError(unreadable(name, kind))
    begin, end = offsets
    if end > held:
        raise ValueError(f"cannot be read: it is half a download and ends after {_size(start + held)}, and {name} lies beyond. {_AGAIN}")
    entry = Entry(DTYPES[kind], shape, lambda: _tensor(file, start + begin, DTYPES[kind], shape))
    if entry.size != end - begin:
        raise ValueError(f"cannot be read: {name} should take {entry.size} bytes and has {end - begin}. {_AGAIN}")
    return entry


def unreadable(name: str, kind: str) -> str:
    """The message about a number type that this version of torch does not have; it follows the file's name."""
    return f"holds {name} as {kind}, which torch {torch.__version__} cannot turn into plain numbers. Save it as fp16, bf16 or fp32."


def _tensor(file: BufferedReader, place: int, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    tensor = torch.empty(shape, dtype=dtype)
    if tensor.numel():
        buffer = memoryview(tensor.reshape(-1).view(torch.uint8).numpy())
        file.seek(place)
        if file.readinto(buffer) != len(buffer):
            raise OSError("it became shorter while it was read")
    return tensor


def _counts(values: Any) -> tuple[int, ...] | None:
    """Whole numbers that a file can have; None for anything else."""
    whole = isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 48 for value in values)
    return tuple(values) if whole else None


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 10**9 else f"{count / 1e6:.1f} MB" if count >= 10**6 else f"{count} bytes"
