"""Files of other people that ``torch.save`` wrote, read for their tensors and plain containers alone; nothing else in them runs.

torch's own reader is not asked: it hands an archive of TorchScript to a loader that runs code. Old checkpoints carry objects of the program
that trained them (Lightning's callbacks, the authors' own configurations); these become inert. Reference: torch/serialization.py (`_save`,
`_legacy_save`), torch/_utils.py (`_rebuild_tensor_v2`), pytorch/docs/source/notes/serialization.rst.
"""

from __future__ import annotations

import mmap
import re
import struct
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lib_finetune.model import numpy_pickles
from lib_finetune.model.unpickler import Inert, Known, Module, Unpickler, UnpicklingError

_DTYPES = {
    "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16, "Double": torch.float64, "Long": torch.int64,
    "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8, "Bool": torch.bool,
    "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128,
}  # fmt: skip
"""Kinds of storages."""
_RAW = "Untyped"
_NEWER = tuple(
    name
    for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "uint16", "uint32", "uint64")
    if hasattr(torch, name)
)
"""Types that have no storage of their own."""
_MAGIC, _FORM = 0x1950A86A20F9469CFC6C, 1001
"""With which files of the older form begin."""
_DIMENSIONS_AT_MOST = 64
_REPEATED_AT_MOST = 1 << 20
"""Elements that a tensor may have beyond its storage (torch's ``expand``)."""
_READ = re.compile(r"data\.pkl|data/\d+|version|byteorder")
_PASSED_OVER = re.compile(r"\.format_version|\.storage_alignment|\.data/[^/]+")
_SCRIPT = ("constants.pkl", "code", "attributes.pkl", "model.json", "extra")
_READABLE = "Finetune reads .safetensors, and .ckpt, .pt and .bin files of plain tensors."


class ForeignFileError(Exception):
    """A file that cannot be read, or will not be; the message is a sentence that names the file and says what to do."""


ERRORS = (OSError, ForeignFileError)
"""What reading a broken or foreign file can raise."""


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by their names, whether they lie under "state_dict" or at the top; on the CPU.

    Raises:
        ERRORS: it cannot be read.
    """
    content = load(path)
    state = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    entries = state.items() if isinstance(state, Mapping) else ()
    return {name: value for name, value in entries if isinstance(name, str) and isinstance(value, torch.Tensor)}


def load(path: Path) -> Any:
    """What ``torch.save`` wrote, on the CPU: dict, list, tuple, set, tensors; all else inert.

    The newer form is mapped into memory, so that a large file takes none until its tensors are looked at. Parameters come as plain tensors.

    Raises:
        ERRORS: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            if not file.seek(0, 2):
                raise UnpicklingError("it is empty")
            # A private copy of each page that is written to: the file stays as it is.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        if mapped[:4] == b"PK\x03\x04":
            return _Zip(path, mapped).load()
        return _Older(mapped).load()
    except ForeignFileError as error:
        raise ForeignFileError(f"{path.name} {error}") from None
    except UnpicklingError as error:
        raise ForeignFileError(f"{path.name} cannot be read: {error}. Download it again; {_READABLE}") from error


# -- tensors -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kind:
    """A kind of storage: its name without "Storage"."""

    name: str

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8 if self.name == _RAW else _DTYPES[self.name]


@dataclass(frozen=True)
class _Storage:
    """Numbers that tensors lie in.

    Attributes:
        values: all of them, in one row.
    """

    kind: _Kind
    values: torch.Tensor


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> torch.Tensor:
    """A view of a storage; what torch needs for gradients is left out."""
    if type(storage) is not _Storage or len(rest) > 3 or storage.kind.name == _RAW:
        raise UnpicklingError("a tensor of it has no storage")
    return _view(storage.values, offset, size, stride, *rest[2:])


def _tensor_of_dtype(storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *rest: Any) -> torch.Tensor:
    """As `_tensor`, of a type that has no kind of storage."""
    if type(storage) is not _Storage or not isinstance(dtype, torch.dtype) or len(rest) > 1:
        raise UnpicklingError("a tensor of it has no storage")
    raw = storage.values.view(torch.uint8) if storage.values.numel() else torch.empty(0, dtype=torch.uint8)
    whole = raw[: raw.numel() // dtype.itemsize * dtype.itemsize]
    return _view(whole.view(dtype), offset, size, stride, *rest)


def _view(values: torch.Tensor, offset: Any, size: Any, stride: Any, metadata: Any = None) -> torch.Tensor:
    if metadata:
        raise UnpicklingError("a tensor of it is conjugated or negated; save it again with .resolve_conj()")
    shape, steps = _numbers(size), _numbers(stride)
    (start,) = _numbers((offset,))
    if len(shape) != len(steps):
        raise UnpicklingError("a tensor's size and stride do not fit each other")
    count = 1
    for length in shape:
        count *= length
    last = start + sum((length - 1) * step for length, step in zip(shape, steps, strict=True)) if count else start
    if last >= values.numel() + (not count) or count > max(values.numel(), _REPEATED_AT_MOST):
        raise UnpicklingError(f"a tensor of {list(shape)[:8]} reaches beyond its storage of {values.numel()} numbers")
    return values.as_strided(shape, steps, values.storage_offset() + start)


def _numbers(numbers: Any) -> tuple[int, ...]:
    if (
        type(numbers) not in (tuple, list)
        or len(numbers) > _DIMENSIONS_AT_MOST
        or any(type(each) is not int or not 0 <= each < 1 << 62 for each in numbers)
    ):
        raise UnpicklingError("a tensor's size or stride is no number")
    return tuple(numbers)


def _parameter(data: Any, *_: Any) -> Any:
    if not isinstance(data, (torch.Tensor, Inert)):
        raise UnpicklingError("a parameter of it is no tensor")
    return data


def _of_type(make: Any, _kind: Any, arguments: Any, _state: Any) -> Any:
    """A tensor of a kind of its own, as a plain one."""
    return make.call(*arguments) if isinstance(make, Known) and type(arguments) is tuple else Inert("a tensor")


def _size(lengths: Any = ()) -> tuple[int, ...]:
    return _numbers(lengths)


_KNOWN: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor"): Known("_rebuild_tensor", _tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Known("_rebuild_tensor_v2", _tensor),
    ("torch._utils", "_rebuild_tensor_v3"): Known("_rebuild_tensor_v3", _tensor_of_dtype),
    ("torch._utils", "_rebuild_parameter"): Known("_rebuild_parameter", _parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): Known("_rebuild_parameter_with_state", _parameter),
    ("torch.nn.parameter", "Parameter"): Known("Parameter", _parameter),
    ("torch._tensor", "_rebuild_from_type_v2"): Known("_rebuild_from_type_v2", _of_type),
    ("torch.nn.modules.container", "ParameterDict"): Known("ParameterDict", lambda *_: Module()),
    ("torch", "Size"): Known("Size", _size),
    **{(module, f"{kind}Storage"): _Kind(kind) for module in ("torch", "torch.cuda", "torch.storage") for kind in (*_DTYPES, _RAW)},
    **{("torch", str(dtype).removeprefix("torch.")): dtype for dtype in _DTYPES.values()},
    **{("torch", name): getattr(torch, name) for name in _NEWER},
    **numpy_pickles.KNOWN,
}
"""What a file of tensors is made of. All else is inert."""


def _description_of(name: Any, parts: int) -> tuple[_Kind, str, int, Any]:
    """(kind, key, how many numbers, what follows) of a storage that a pickle names."""
    if type(name) is not tuple or not 5 <= len(name) <= parts or name[0] != "storage":
        raise UnpicklingError("it names something outside of its pickle that is no storage")
    _, kind, key, location, count, *rest = name
    if type(kind) is not _Kind or type(key) not in (str, int) or type(location) is not str or type(count) is not int or count < 0:
        raise UnpicklingError(f"it names a storage of an unknown kind ({kind!r:.80})")
    return kind, str(key), count, rest[0] if rest else None


# -- the newer form: a zip archive -------------------------------------------------------------------------------------


class _Zip:
    """Members "data.pkl", "data/0", … below one folder, none of them packed."""

    def __init__(self, path: Path, mapped: mmap.mmap) -> None:
        self._mapped = mapped
        try:
            with zipfile.ZipFile(path) as archive:
                self._members = _inside(archive.infolist())
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, EOFError, RuntimeError) as error:
            raise UnpicklingError("it is half a download, or broken: it is no whole zip archive") from error
        if sum(each.file_size for each in self._members.values()) > len(mapped):
            raise UnpicklingError("its members are larger than the file")
        self._storages: dict[str, _Storage] = {}

    def load(self) -> Any:
        """The content of "data.pkl"."""
        order = self._bytes("byteorder") if "byteorder" in self._members else b"little"
        if bytes(order).decode("ascii", "replace").strip() != sys.byteorder:
            raise ForeignFileError("was written on a machine with another order of bytes; save it again as .safetensors there.")
        return Unpickler(self._bytes("data.pkl"), _KNOWN, self._storage).load()

    def _storage(self, name: Any) -> _Storage:
        kind, key, count, _ = _description_of(name, 5)
        storage = self._storages.get(key)
        if storage is None:
            storage = self._storages[key] = _Storage(kind, self._values(kind, key, count))
        if storage.kind != kind or storage.values.numel() != count:
            raise UnpicklingError(f"its storage {key} is told of in two ways")
        return storage

    def _values(self, kind: _Kind, key: str, count: int) -> torch.Tensor:
        start, size = self._place(f"data/{key}")
        item = kind.dtype.itemsize
        if size // item != count:
            raise UnpicklingError(f"its storage {key} should hold {count} numbers of {item} bytes and has {size} bytes")
        return _typed(self._mapped, start, kind.dtype, count, copy=bool(start % item))

    def _bytes(self, name: str) -> bytes:
        start, size = self._place(name)
        return self._mapped[start : start + size]

    def _place(self, name: str) -> tuple[int, int]:
        """Where a member's content begins, and its size."""
        if name not in self._members:
            raise UnpicklingError(f"{name} is missing")
        info = self._members[name]
        head = self._mapped[info.header_offset : info.header_offset + 30]
        if len(head) < 30 or head[:4] != b"PK\x03\x04":
            raise UnpicklingError(f"{name} is not where it should be")
        flags, packed = struct.unpack("<HH", head[6:10])
        name_size, more_size = struct.unpack("<HH", head[26:30])
        named = self._mapped[info.header_offset + 30 : info.header_offset + 30 + name_size]
        start = info.header_offset + 30 + name_size + more_size
        if packed or named.decode(_encoding(flags), "replace") != info.orig_filename or start + info.file_size > len(self._mapped):
            raise UnpicklingError(f"{name} is told of in two ways")
        return start, info.file_size


def _encoding(flags: int) -> str:
    """Of names, as zip archives tell it."""
    return "utf-8" if flags & 0x800 else "cp437"


def _inside(infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """The members that are read, by their names below the archive's one folder."""
    members: dict[str, zipfile.ZipInfo] = {}
    prefix: str | None = None
    if infos and not any(info.orig_filename.endswith(("data.pkl", "version", "constants.pkl")) for info in infos):
        raise ForeignFileError(
            f"is a packed archive (zip) that holds {infos[0].orig_filename!r:.100}. Unpack it and name the model inside."
        )
    for info in infos:
        top, slash, name = info.orig_filename.partition("/")
        prefix = top if prefix is None else prefix
        if name.split("/")[0] in _SCRIPT:
            raise ForeignFileError(
                f"is a TorchScript archive ({name!r:.80}): it holds a program, not only weights, and is not read. {_READABLE}"
            )
        if (
            top in ("", ".", "..")
            or "\\" in top
            or top != prefix
            or not slash
            or not (_READ.fullmatch(name) or _PASSED_OVER.fullmatch(name))
        ):
            message = f"holds {info.orig_filename!r:.100}, which no file of tensors does, and is not read. {_READABLE}"
            raise ForeignFileError(message)
        if info.flag_bits & 1 or info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ForeignFileError(f"holds {name!r:.80} packed or locked, which torch never writes, and is not read. {_READABLE}")
        if name in members:
            raise ForeignFileError(f"holds {name!r:.80} twice, and is not read. {_READABLE}")
        members[name] = info
    return {name: info for name, info in members.items() if _READ.fullmatch(name)}


def _typed(buffer: Any, start: int, dtype: torch.dtype, count: int, *, copy: bool) -> torch.Tensor:
    if not count:
        return torch.empty(0, dtype=dtype)
    if copy:  # of what does not begin at a multiple of its size, which processors may not read
        size = count * dtype.itemsize
        buffer, start = np.array(np.frombuffer(buffer, np.uint8, size, start)), 0
    return torch.frombuffer(buffer, dtype=dtype, count=count, offset=start)


# -- the older form: pickles, then the numbers -------------------------------------------------------------------------


class _Older:
    """A number, a version, notes on the machine, the content, the storages' names, and then what each of them holds."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped = mapped
        self._storages: dict[str, tuple[_Storage, np.ndarray]] = {}
        self._bytes = 0

    def load(self) -> Any:
        """The content."""
        if self._mapped[257:262] == b"ustar":
            raise ForeignFileError(f"is of the tar form that torch wrote before 2017, and is not read. {_READABLE}")
        if self._mapped[:1] != b"\x80":
            raise UnpicklingError("it is nothing that torch writes")
        reader = Unpickler(self._mapped, _KNOWN, self._storage)
        if reader.load() != _MAGIC or reader.load() != _FORM:
            raise UnpicklingError("it is nothing that torch writes")
        machine = reader.load()
        if isinstance(machine, dict) and machine.get("little_endian", True) is not (sys.byteorder == "little"):
            raise ForeignFileError("was written on a machine with another order of bytes; save it again as .safetensors there.")
        content = reader.load()
        keys = reader.load()
        if type(keys) is not list or any(type(key) not in (str, int) for key in keys) or sorted(map(str, keys)) != sorted(self._storages):
            raise UnpicklingError("the storages are not those that its pickle tells of")
        place = reader.place
        for key in keys:
            place = self._fill(str(key), place)
        return content

    def _storage(self, name: Any) -> Any:
        if type(name) is tuple and len(name) > 1 and name[0] == "module":  # the source of a class of somebody's own
            return name[1] if isinstance(name[1], (Inert, Known)) else Inert("a class")
        kind, key, count, view = _description_of(name, 6)
        if key not in self._storages:
            self._bytes += count * kind.dtype.itemsize
            if self._bytes > len(self._mapped):
                raise UnpicklingError(
                    f"it is half a download, or broken: its storage {key} should hold {count} numbers, more than the file"
                )
            held = np.empty(count * kind.dtype.itemsize, np.uint8)
            self._storages[key] = (_Storage(kind, _typed(held, 0, kind.dtype, count, copy=False)), held)
        storage = self._storages[key][0]
        if storage.kind != kind or storage.values.numel() != count:
            raise UnpicklingError(f"its storage {key} is told of in two ways")
        return storage if view is None else self._part(storage, view)

    def _part(self, storage: _Storage, view: Any) -> _Storage:
        """A storage that is a part of another one."""
        if type(view) is not tuple or len(view) != 3:
            raise UnpicklingError("it names a part of a storage in an unknown way")
        start, count = _numbers(view[1:])
        if start + count > storage.values.numel():
            raise UnpicklingError("a part of a storage reaches beyond it")
        return _Storage(storage.kind, storage.values[start : start + count])

    def _fill(self, key: str, place: int) -> int:
        """Read what a storage holds; returns where the next one begins."""
        storage, held = self._storages[key]
        count = struct.unpack("<q", self._mapped[place : place + 8])[0] if place + 8 <= len(self._mapped) else -1
        end = place + 8 + len(held)
        if count != storage.values.numel() or end > len(self._mapped):
            raise UnpicklingError(
                f"it is half a download, or broken: it ends too early, or its storage {key} is of another size than its pickle tells"
            )
        if len(held):
            held[:] = np.frombuffer(self._mapped, np.uint8, len(held), place + 8)
        return end
