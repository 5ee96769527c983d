"""Encoded images, kept in memory up to a bound and on disk beyond it."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from lib_finetune.errors import reason_of
from lib_finetune.locked_files import put_in_place

_log = logging.getLogger(__name__)
Encoded = tuple[torch.Tensor, torch.Tensor]
_DTYPES = {"mean": torch.float32, "std": torch.float32, "seal": torch.uint8}


def variant_key(content: str, size: tuple[int, int], position: tuple[float, float], flip: bool, vae_key: str) -> str:
    """Name of an encoded image: sha256, hex, over all that it depends on.

    Args:
        content: sha256 of the image's file.
        size: (width, height) in px.
        position: which part is kept, 0..1.
        vae_key: names the VAE's weights and the precision that they compute in.
    """
    x, y = position
    text = f"finetune-latent-2|{content}|{size[0]}x{size[1]}|{x:.4f},{y:.4f}|{int(flip)}|{vae_key}"
    return hashlib.sha256(text.encode()).hexdigest()


class LatentCache:
    """Mean and standard deviation of the VAE's posterior, by key; bit-equal to what was put. For one thread.

    With a folder, every entry is a file there at once and outlives the run. Without one, what memory has no room for goes
    to a temporary folder that is removed with this object. A cache is a convenience: an entry that is damaged, or could not
    be written, is a miss and never an error.

    Args:
        folder: where the files are kept, or None.
        vae_key: part of every key, see `variant_key`.
        ram_bytes: bound on what is held in memory; an entry larger than it is not held.
        on_used: told each key the first time that it is put or asked for and there.
    """

    def __init__(
        self, folder: Path | None, vae_key: str, ram_bytes: int = 512 * 2**20, on_used: Callable[[str], None] = lambda _: None
    ) -> None:
        self._folder = folder
        self._vae_key = vae_key
        self._ram_bytes = ram_bytes
        self._ram: OrderedDict[str, Encoded] = OrderedDict()
        self._held_bytes = 0
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._sound: set[str] = set()
        self._used: set[str] = set()
        self._on_used = on_used
        self._warned = False

    def key(self, content: str, size: tuple[int, int], position: tuple[float, float], flip: bool) -> str:
        """`variant_key` with this cache's VAE."""
        return variant_key(content, size, position, flip, self._vae_key)

    def __contains__(self, key: str) -> bool:
        """Whether `get` will find it. A file is read whole the first time that it is asked for."""
        if key in self._ram:
            return True
        if key in self._sound and (path := self._path(key)) is not None and path.is_file():
            return True
        return self.get(key) is not None

    def _note(self, key: str) -> None:
        if key not in self._used:
            self._used.add(key)
            self._on_used(key)

    def get(self, key: str) -> Encoded | None:
        """The entry (mean, std), float32 on the CPU, or None. The tensors are the cache's own: read them only."""
        if key in self._ram:
            self._ram.move_to_end(key)
            return self._ram[key]
        moments = self._read(key)
        if moments is not None:
            self._note(key)
            self._hold(key, moments)
        return moments

    def put(self, key: str, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Keep an entry; the tensors are copied."""
        entry = (_own(mean), _own(std))
        self._sound.discard(key)
        self._note(key)
        if self._folder is not None:
            self._write(key, entry)
        self._hold(key, entry)

    def _hold(self, key: str, entry: Encoded) -> None:
        if key in self._ram:
            self._held_bytes -= _size_bytes(self._ram.pop(key))
        self._ram[key] = entry
        self._held_bytes += _size_bytes(entry)
        while self._held_bytes > self._ram_bytes:
            oldest, evicted = self._ram.popitem(last=False)
            self._held_bytes -= _size_bytes(evicted)
            if self._folder is None and oldest not in self._sound:
                self._write(oldest, evicted)

    def _path(self, key: str) -> Path | None:
        root = self._folder or (Path(self._temporary.name) if self._temporary else None)
        return root / key[:2] / f"{key}.safetensors" if root else None

    def _read(self, key: str) -> Encoded | None:
        path = self._path(key)
        if path is None:
            return None
        try:
            # From bytes: tensors from `load_file` would each keep a file mapped for as long as they live.
            entry = _unpack(key, path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(f"cannot be read ({reason_of(error)})")
            return None
        if entry is None:
            _log.warning("The cached encoding %s is damaged; it is made anew.", path)
            self._discard(path)
            return None
        self._sound.add(key)
        return entry

    def _write(self, key: str, entry: Encoded) -> None:
        if self._folder is None and self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="finetune-", ignore_cleanup_errors=True)
        path = self._path(key)
        assert path is not None  # a root exists by now
        temporary = path.with_name(f"{key}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(_pack(key, entry))
            put_in_place(temporary, path)
        except OSError as error:
            self._warn(f"cannot be written ({reason_of(error)})")
            self._discard(temporary)
        else:
            self._sound.add(key)

    def _discard(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._warn(f"cannot be cleared ({reason_of(error)})")

    def _warn(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            _log.warning("The cache of encoded images %s; images are encoded again where needed.", what)


def _own(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", torch.float32, copy=True).contiguous()


def _size_bytes(entry: Encoded) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in entry)


def _seal(key: str, entry: Encoded) -> bytes:
    """Ties key and numbers together: tells a file that was renamed, exchanged or damaged inside."""
    digest = hashlib.sha256(key.encode())
    for tensor in entry:
        digest.update(repr(tuple(tensor.shape)).encode())
        digest.update(tensor.numpy().tobytes())
    return digest.digest()


def _pack(key: str, entry: Encoded) -> bytes:
    seal = torch.frombuffer(bytearray(_seal(key, entry)), dtype=torch.uint8)
    data: bytes = safetensors.torch.save({"mean": entry[0], "std": entry[1], "seal": seal})
    return data


def _unpack(key: str, data: bytes) -> Encoded | None:
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError):
        return None
    if {name: tensor.dtype for name, tensor in tensors.items()} != _DTYPES:
        return None
    entry = (tensors["mean"], tensors["std"])
    return entry if tensors["seal"].numpy().tobytes() == _seal(key, entry) else None
