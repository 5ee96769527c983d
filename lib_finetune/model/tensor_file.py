"""A ``.safetensors`` file written tensor by tensor, so that a checkpoint is saved without a second copy of it in memory.

Reference: the format in huggingface/safetensors, README.md ("Format"). The library itself wants all tensors at once.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from lib_finetune.files import replacing

_ATTRIBUTES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E8M0": "float8_e8m0fnu", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
DTYPES: dict[str, torch.dtype] = {name: getattr(torch, attribute) for name, attribute in _ATTRIBUTES.items() if hasattr(torch, attribute)}
"""The format's types → torch's, of those that this torch can turn into plain numbers."""
NAMES = {dtype: name for name, dtype in DTYPES.items()}
"""torch's types → the format's."""
_ALIGNMENT = 8


@dataclass(frozen=True)
class Entry:
    """A tensor to be written.

    Attributes:
        value: gives the tensor when its turn has come; of this dtype and shape, on any device.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    value: Callable[[], torch.Tensor]

    @property
    def size(self) -> int:
        """Bytes."""
        return int(torch.Size(self.shape).numel()) * self.dtype.itemsize


def entry(tensor: torch.Tensor) -> Entry:
    """An entry of a tensor that is there already."""
    return Entry(tensor.dtype, tuple(tensor.shape), lambda: tensor)


def write(path: Path, entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> None:
    """Write a file whole or not at all.

    Raises:
        SaveError: as `files.replacing`.
        ValueError: an entry gave another tensor than it announced.
    """
    # Widest types first, so that every tensor begins at a multiple of its type's size, as readers that map the file want it.
    ordered = dict(sorted(entries.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))
    with replacing(path, sum(each.size for each in entries.values())) as file:
        _write_header(file, ordered, metadata)
        for name, announced in ordered.items():
            value = announced.value().detach()
            if value.dtype != announced.dtype or tuple(value.shape) != announced.shape:
                raise ValueError(f"{name} is {value.dtype} {tuple(value.shape)}, announced {announced.dtype} {announced.shape}")
            if value.numel():
                file.write(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _write_header(file: BinaryIO, entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> None:
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, announced in entries.items():
        end = offset + announced.size
        header[name] = {"dtype": NAMES[announced.dtype], "shape": list(announced.shape), "data_offsets": [offset, end]}
        offset = end
    _write_text(file, header)


def _write_text(file: BinaryIO, header: Mapping[str, object]) -> None:
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % _ALIGNMENT)
    file.write(struct.pack("<Q", len(text)) + text)


def metadata_in(head: bytes) -> dict[str, str]:
    """The metadata that the beginning of a file tells: its header, without the tensors.

    Raises:
        ValueError: it is no such file, or more of it is needed.
    """
    size = struct.unpack("<Q", head[:8])[0] if len(head) >= 8 else 0
    if not size or size > len(head) - 8:
        raise ValueError("it is no .safetensors file, or ends too early")
    try:
        header = json.loads(head[8 : 8 + size].decode("utf-8"))
    except RecursionError:
        raise ValueError("its header is nested too deeply") from None
    metadata = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its header is damaged")
    return metadata


def renamed(source: Path, target: Path, changes: Mapping[str, str]) -> None:
    """Write a copy of a file with other words for metadata that it has; its tensors are the same bytes, so their hashes hold.

    Raises:
        SaveError: as `files.replacing`, or ``source`` cannot be read.
    """
    with replacing(target) as file, source.open("rb") as opened:
        (size,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(opened.read(size))
        known = header.get("__metadata__", {})
        header["__metadata__"] = {**known, **{name: value for name, value in changes.items() if name in known}}
        _write_text(file, header)
        shutil.copyfileobj(opened, file)
