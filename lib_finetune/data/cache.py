"""The cache of encoded pictures: bounded in memory, one small file each on disk, keyed by all that made them."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

_log = logging.getLogger(__name__)
Latents = tuple[torch.Tensor, torch.Tensor]


class LatentCache:
    """Mean and standard deviation of the autoencoder's posterior by key."""

    def __init__(self, folder: Path | None, vae_key: str, ram_bytes: int = 512 << 20) -> None:
        """
        Args:
            folder: where entries are kept; None uses a temporary folder that goes with this object.
            vae_key: what tells autoencoders apart.
            ram_bytes: entries kept in memory; the least used leave first.
        """
        self._temporary = tempfile.TemporaryDirectory(prefix="finetune-latents-") if folder is None else None
        self._folder = Path(self._temporary.name) if self._temporary else folder or Path()
        self._vae_key = vae_key
        self._ram_bytes = ram_bytes
        self._held: OrderedDict[str, Latents] = OrderedDict()
        self._held_bytes = 0

    def key(self, content: str, size: tuple[int, int], position: tuple[float, float], flip: bool) -> str:
        """Key of a variant: sha256 of the picture's bytes, cut and the autoencoder."""
        return hashlib.sha256(f"{content}/{size}/{position}/{flip}/{self._vae_key}".encode()).hexdigest()

    def has(self, key: str) -> bool:
        """Whether an entry is there (its file may still prove broken)."""
        return key in self._held or self._path(key).is_file()

    def get(self, key: str) -> Latents | None:
        """(mean, std), bit-equal to what was put, or None."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        try:
            found = load(self._path(key).read_bytes())
            latents = (found["mean"], found["std"])
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError) as error:
            _log.warning("The cached latents %s are broken and made again: %s", key, error)
            self._path(key).unlink(missing_ok=True)
            return None
        self._hold(key, latents)
        return latents

    def put(self, key: str, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Keep [1, 4, h, w] float32 tensors. A disk that is full costs the entry only, as long as memory holds it."""
        latents = (mean.detach().contiguous(), std.detach().contiguous())
        self._hold(key, latents)
        path = self._path(key)
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(save({"mean": latents[0], "std": latents[1]}))
            os.replace(part, path)
        except OSError as error:
            _log.warning("Encoded pictures cannot be kept on disk (%s); they are encoded again when needed.", error)
            part.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"

    def _hold(self, key: str, latents: Latents) -> None:
        self._held[key] = latents
        self._held_bytes += _bytes(latents)
        while self._held_bytes > self._ram_bytes and len(self._held) > 1:
            self._held_bytes -= _bytes(self._held.popitem(last=False)[1])


def _bytes(latents: Latents) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in latents)
