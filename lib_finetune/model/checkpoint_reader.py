"""A checkpoint file in the original SD layout, read without the WebUI and without unsafe unpickling."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch

from lib_finetune.errors import CheckpointError, Problem
from lib_finetune.model import pickled
from lib_finetune.model.layout import TEXT, UNET, VAE

_PARTS = (UNET, VAE, TEXT)
_OLD_TEXT = tuple(f"{TEXT}{part}." for part in ("embeddings", "encoder", "final_layer_norm"))


def read(path: Path, dtype: torch.dtype, device: torch.device) -> dict[str, torch.Tensor]:
    """Weights of UNet, autoencoder and text encoder under their LDM names.

    Args:
        dtype: that the weights are brought to.

    Raises:
        CheckpointError: missing, broken, of another kind of file, or holding no tensors of SD.
    """
    if not path.is_file():
        raise _refused(f"{path} does not exist." if not path.exists() else f"{path} is a folder; name a .safetensors or .ckpt file.")
    readers = {".safetensors": _safetensors, ".ckpt": _pickle, ".pt": _pickle}
    if path.suffix.lower() not in readers:
        raise _refused(f"{path.name} is neither .safetensors nor .ckpt.")
    tensors = readers[path.suffix.lower()](path)
    return {name: value.to(device=device, dtype=dtype) for name, value in tensors.items() if not name.endswith("position_ids")}


def sha256(path: Path) -> str:
    """Of the file's bytes, lower-case hex; the WebUI's model hash is its first 10 digits. Read once while the file stays as it is.

    Raises:
        OSError: it cannot be read.
    """
    status = path.stat()
    return _sha256(path, (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))


@functools.lru_cache(maxsize=8)
def _sha256(path: Path, _state: tuple[int, ...]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def metadata(path: Path) -> dict[str, str]:
    """Metadata of a .safetensors file; empty for others.

    Raises:
        CheckpointError: it cannot be read.
    """
    if path.suffix.lower() != ".safetensors":
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise _refused(f"{path.name} cannot be read ({error}). Download it again.") from error


def names(path: Path) -> list[str]:
    """Names of all tensors in a file, as they stand there.

    Raises:
        CheckpointError: it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if path.suffix.lower() != ".safetensors":
            return list(pickled.tensors(path))
        with safe_open(str(path), framework="pt") as file:
            return list(file.keys())
    except (*pickled.ERRORS, SafetensorError) as error:
        raise _refused(f"{path.name} cannot be read ({error}). Download it again.") from error


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            names = list(file.keys())
            tensors = {ldm_name(name): file.get_tensor(name) for name in names if ldm_name(name).startswith(_PARTS)}
    except (OSError, SafetensorError) as error:
        raise _refused(f"{path.name} cannot be read ({error}). Download it again.") from error
    return _with_strangers(tensors, names)


def _pickle(path: Path) -> dict[str, torch.Tensor]:
    try:
        tensors = pickled.tensors(path)
    except pickled.ForeignFileError as error:
        raise _refused(str(error)) from error
    except OSError as error:
        raise _refused(f"{path.name} cannot be read ({error}). Download it again.") from error
    weights = {ldm_name(name): value for name, value in tensors.items() if ldm_name(name).startswith(_PARTS)}
    return _with_strangers(weights, tensors)


def ldm_name(name: str) -> str:
    """A tensor's name as all files but some early ones have it, which leave out the level "text_model"."""
    return name.replace(TEXT, TEXT + "text_model.", 1) if name.startswith(_OLD_TEXT) else name


def _with_strangers(tensors: dict[str, torch.Tensor], names: Mapping[str, torch.Tensor] | list[str]) -> dict[str, torch.Tensor]:
    """Keep the names by which other families are told apart, as empty tensors."""
    strangers = [name for name in names if name.startswith(("conditioner.", "cond_stage_model.model."))]
    return {**tensors, **{name: torch.empty(0) for name in strangers[:1]}}


def _refused(message: str) -> CheckpointError:
    return CheckpointError([Problem("checkpoint", message)])
