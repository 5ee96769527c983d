"""A checkpoint file in the original SD layout, read without the WebUI and without unsafe unpickling."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import torch

from lib_finetune.errors import CheckpointError, Problem
from lib_finetune.model import weights_file
from lib_finetune.model.layout import TEXT, UNET, VAE
from lib_finetune.model.soundness import not_finite

_PARTS = (UNET, VAE, TEXT)
_OLD_TEXT = tuple(f"{TEXT}{part}." for part in ("embeddings", "encoder", "final_layer_norm"))
_NOT_USED = re.compile(
    r"[^.]+|model_ema\..*|first_stage_model\.(loss|model_ema|logvar)\b.*|embedding_manager\..*|safety_checker\..*|denoiser\..*"
    r"|cond_stage_model\.(logit_scale|text_projection)|cond_stage_model\.transformer\.(text_projection\.weight|(text_model\.)?embeddings\.position_ids)"
)
"""What nobody needs who paints or trains: tables of the noise, averages, losses, the projection behind the text encoder."""


def read(path: Path, dtype: torch.dtype, device: torch.device) -> dict[str, torch.Tensor]:
    """Weights of UNet, autoencoder and text encoder under their LDM names.

    Args:
        dtype: that the weights are brought to.

    Raises:
        CheckpointError: missing, broken, of another kind or family, or with parts that SD1.x has not; each by name.
    """
    with weights_file.opened(path, "checkpoint") as weights:
        weights_file.refuse_other_kinds(path, "checkpoint", weights, "checkpoint")
        names = {name: ldm_name(name) for name in weights.tensors if not _NOT_USED.fullmatch(name)}
        refuse_strangers(path, (name for name, known in names.items() if not known.startswith(_PARTS)))
        tensors = {known: weights.tensors[name].value() for name, known in names.items()}
        if wrong := not_finite(tensors):
            message = f"{path.name} is damaged: {wrong} holds NaN or infinity. Download it again, or name another one."
            raise CheckpointError([Problem("checkpoint", message)])
        return {known: value.to(device=device, dtype=dtype) for known, value in tensors.items()}


def refuse_strangers(path: Path, strangers: Iterable[str]) -> None:
    """
    Args:
        strangers: names in a checkpoint for which SD1.x has no place.

    Raises:
        CheckpointError: there are any.
    """
    names = sorted(strangers)
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        message = (
            f"{path.name} holds {names[0]}{more}, for which Stable Diffusion 1.x has no place; without it the model is another one. "
            "Use a plain checkpoint, without such an addition."
        )
        raise CheckpointError([Problem("checkpoint", message)])


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
    return weights_file.metadata(path, "checkpoint")


def names(path: Path) -> list[str]:
    """Names of all tensors in a file, as they stand there.

    Raises:
        CheckpointError: it cannot be read.
    """
    with weights_file.opened(path, "checkpoint") as weights:
        return list(weights.tensors)


def ldm_name(name: str) -> str:
    """A tensor's name as all files but some early ones have it, which leave out the level "text_model"."""
    return name.replace(TEXT, TEXT + "text_model.", 1) if name.startswith(_OLD_TEXT) else name
