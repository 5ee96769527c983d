"""Embedding files: what the WebUI and diffusers read, as ``.safetensors`` or in the WebUI's ``.pt`` form.

Reference: the WebUI's modules/textual_inversion/textual_inversion.py (`create_embedding_from_data`, `Embedding.save`).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lib_finetune.errors import CheckpointError, Problem, SaveError
from lib_finetune.export.metadata import Recipe, embedding_metadata
from lib_finetune.files import write_atomically
from lib_finetune.model import pickled

KEY = "emb_params"
SUFFIXES = (".safetensors", ".pt", ".bin")
_ANY_TOKEN = 265  # the id of "*", which the WebUI writes into every file and reads from none


def names_file(text: str) -> bool:
    """Whether it is the name of an embedding's file, by its ending, and not words."""
    return Path(text).suffix in SUFFIXES


def write(path: Path, tensors: Mapping[str, torch.Tensor], recipe: Recipe) -> None:
    """Write an embedding, float32; the path's ending chooses the form.

    Args:
        tensors: `KEY` → [vectors, width].

    Raises:
        SaveError: a value is not finite, the disk is full, the folder is not writable.
    """
    vectors = tensors[KEY].detach().to("cpu", torch.float32).contiguous()
    if not bool(torch.isfinite(vectors).all()):
        raise SaveError(f"{path.name} was not written: its vectors are not finite; the training went wrong.")
    write_atomically(path, _pt(vectors, recipe) if path.suffix == ".pt" else _safetensors(vectors, recipe))


def _safetensors(vectors: torch.Tensor, recipe: Recipe) -> bytes:
    from safetensors.torch import save

    content: bytes = save({KEY: vectors}, embedding_metadata(recipe))
    return content


def _pt(vectors: torch.Tensor, recipe: Recipe) -> bytes:
    data = {
        "string_to_token": {"*": _ANY_TOKEN},
        "string_to_param": {"*": vectors},
        "name": recipe.name,
        "step": recipe.steps,
        "sd_checkpoint": recipe.checkpoint_short_hash,
        "sd_checkpoint_name": recipe.checkpoint,
    }
    content = io.BytesIO()
    # The WebUI's unpickler refuses the zip members that torch 2.6 and later write.
    torch.save(data, content, _use_new_zipfile_serialization=False)
    return content.getvalue()


def read(path: Path, field: str = "embedding") -> torch.Tensor:
    """The vectors of an embedding file: [n, width] float32 on the CPU.

    Args:
        field: what a problem is reported under.

    Raises:
        CheckpointError: missing, broken, or no embedding of one text encoder.
    """
    if not path.is_file():
        raise CheckpointError([Problem(field, f"{path} does not exist.")])
    from safetensors import SafetensorError

    try:
        vectors = _only_tensor(_load(path))
    except pickled.ForeignFileError as error:
        raise CheckpointError([Problem(field, str(error))]) from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            [Problem(field, f"{path.name} cannot be read: {error}. Name an embedding as .safetensors or .pt.")]
        ) from error
    if vectors is None:
        raise CheckpointError(
            [Problem(field, f"{path.name} is no embedding of Stable Diffusion 1.5: it does not hold exactly one tensor.")]
        )
    # A copy: what is mapped keeps the file open, and Windows then lets nobody replace it.
    return vectors.detach().float().reshape(-1, vectors.shape[-1]).clone()


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(str(path))
    return pickled.load(path)


def _only_tensor(data: Any) -> torch.Tensor | None:
    if not isinstance(data, Mapping):
        return None
    named = data.get("string_to_param", data)
    tensors = [value for value in named.values() if isinstance(value, torch.Tensor)] if isinstance(named, Mapping) else []
    return tensors[0] if len(tensors) == 1 and tensors[0].ndim in (1, 2) and tensors[0].numel() else None
