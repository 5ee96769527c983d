"""Embedding files: what the WebUI and diffusers read, as ``.safetensors`` or in the WebUI's ``.pt`` form.

Reference: the WebUI's modules/textual_inversion/textual_inversion.py (`create_embedding_from_data`, `Embedding.save`).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import torch

from lib_finetune import files
from lib_finetune.errors import CheckpointError, Problem, SaveError
from lib_finetune.export import embedding_picture
from lib_finetune.export.metadata import Recipe, embedding_metadata
from lib_finetune.files import write_atomically
from lib_finetune.model import file_kinds, weights_file

KEY = "emb_params"
SUFFIXES = (".safetensors", ".pt", ".bin")
_VECTORS, _TOKENS = "string_to_param.", "string_to_token."
_ANY_TOKEN = 265  # the id of "*", which the WebUI writes into every file and reads from none


def names_file(text: str) -> bool:
    """Whether a text that may be words too names an embedding's file."""
    return files.names_file(text, (*SUFFIXES, *embedding_picture.ENDINGS, ".ckpt", ".pth"))


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
    weights_file.refuse_absent(path, field, "Name an embedding's file.")
    with weights_file.in_words(path, field):
        words = embedding_picture.tensors(path) if _is_picture(path) else None
    if words is None:
        words = _in_file(path, field)
    if len(words) != 1:
        listed = f" ({', '.join(list(words)[:3])})" if words else ""
        message = f"{path.name} is no embedding of Stable Diffusion 1.x: it does not hold exactly one tensor but {len(words)}{listed}. Name a file of one word."
        raise CheckpointError([Problem(field, message)])
    (vectors,) = words.values()
    if vectors.ndim not in (1, 2) or not vectors.numel():
        message = (
            f"{path.name} is no embedding of Stable Diffusion 1.x: its tensor has the sides {list(vectors.shape)}, not vectors × width."
        )
        raise CheckpointError([Problem(field, message)])
    if not bool(torch.isfinite(vectors).all()):
        raise CheckpointError([Problem(field, f"{path.name} is damaged: it holds NaN or infinity. Name another embedding.")])
    # A copy: what is mapped keeps the file open, and Windows then lets nobody replace it.
    return vectors.reshape(-1, vectors.shape[-1]).clone()


def _is_picture(path: Path) -> bool:
    with path.open("rb") as file:
        return embedding_picture.BEGINNING.match(file.read(16)) is not None


def _in_file(path: Path, field: str) -> dict[str, torch.Tensor]:
    with weights_file.opened(path, field) as weights:
        if weights.contents().kind is not file_kinds.UNKNOWN:  # of which a word of any name may be
            weights_file.refuse_other_kinds(path, field, weights, "embedding")
        own = {name for name in weights.tensors if name.startswith(_VECTORS)} or {
            name for name in weights.tensors if not name.startswith(_TOKENS)
        }
        # A copy: what is mapped keeps the file open, and Windows then lets nobody replace it.
        return {name.removeprefix(_VECTORS): weights.tensors[name].value().detach().float().clone() for name in sorted(own)}
