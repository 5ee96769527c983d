"""Painters from files: a checkpoint alone, or with a LoRA or an embedding that any trainer made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lib_finetune.errors import InputError, Problem

from . import evaluate, tokens
from .measure import Paint

if TYPE_CHECKING:
    import torch

CHECKPOINT, LORA, EMBEDDING = "checkpoint", "lora", "embedding"


class Remembering:
    """A painter that paints every prompt and seed once; equal requests get equal pictures."""

    def __init__(self, paint: Paint, say: Callable[[str], None] | None = None) -> None:
        self._paint = paint
        self._say = say or (lambda _line: None)
        self._known: dict[tuple[str, int], np.ndarray] = {}

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """See `measure.Paint`."""
        wanted = list(zip(prompts, seeds, strict=True))
        missing = [pair for pair in dict.fromkeys(wanted) if pair not in self._known]
        if missing:
            self._say(f"painting {len(missing)}, from {missing[0][0]!r} on")
            painted = self._paint([prompt for prompt, _ in missing], [seed for _, seed in missing])
            self._known.update(zip(missing, painted, strict=True))
        return np.stack([self._known[pair] for pair in wanted])


def read(path: Path) -> tuple[str, dict[str, torch.Tensor]]:
    """What kind of file it is, and its tensors (of a checkpoint none: it is large, and read by `painter`).

    Raises:
        InputError: the file is missing, broken or of no known kind.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError([Problem("--file", f"{path} does not exist. Name a LoRA, a checkpoint or an embedding.")])
    if path.suffix in (".pt", ".bin"):
        return EMBEDDING, _pickled_embedding(path)
    try:
        with safe_open(path, "pt") as file:
            names = set(file.keys())
        if any(name.startswith("model.diffusion_model.") for name in names):
            return CHECKPOINT, {}
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError([Problem("--file", f"{path} cannot be read as a .safetensors file: {error}")]) from error
    if all(name.startswith(("lora_unet_", "lora_te_", "bundle_emb.")) for name in names):
        return LORA, tensors
    if len(tensors) == 1 and next(iter(tensors.values())).ndim <= 2:
        return EMBEDDING, tensors
    shown = ", ".join(sorted(names)[:2])
    raise InputError([Problem("--file", f"{path} is no LoRA, checkpoint or embedding that is read here: it holds {shown}, …")])


def painter(checkpoint: Path, file: Path | None = None, *, weight: float = 1.0, identifier: str, steps: int, guidance: float) -> Paint:
    """Paint with a checkpoint, and a file that changes or replaces it.

    Args:
        weight: of a LoRA.
        identifier: the word of a prompt that an embedding, or the word in a LoRA file, stands for.

    Raises:
        InputError: a file is missing, broken, of another family or for another model.
    """
    from lib_finetune.export import bundled_word
    from lib_finetune.model.lora_merge import merged

    kind, patch = read(file) if file else (CHECKPOINT, {})
    if kind == CHECKPOINT and file:
        checkpoint = file
    model, tensors = _model(checkpoint)
    encode: Callable[[list[str]], torch.Tensor] = tokens.encode
    words = patch if kind == EMBEDDING else {}
    if kind == LORA:
        patches, words = bundled_word.parted(patch)
        tensors = merged(tensors, model, patches, weight, "--file")
    if words:
        tensors, encode = _with_embedding(tensors, next(iter(words.values())), identifier)
        model = _borrowed(tensors)
    model.bind(tensors)
    return lambda prompts, seeds: evaluate.paint(
        model.unet, model.vae, model.text, prompts, seeds, steps=steps, guidance=guidance, encode=encode
    )


def bound(checkpoint: Path) -> Any:
    """A view of a checkpoint of the drawn world with its weights in place.

    Raises:
        CheckpointError: the file is missing or of another family.
    """
    model, tensors = _model(checkpoint)
    model.bind(tensors)
    return model


def _model(path: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    import torch

    from lib_finetune.errors import CheckpointError
    from lib_finetune.model import checkpoint_reader, layout

    if not path.is_file():
        raise CheckpointError(f"The checkpoint {path} is missing. Nano's own is made with: python -m bench nano train --state DIR")
    tensors = checkpoint_reader.read(path, torch.float32, torch.device("cpu"))
    layout.refuse_other_families(tensors)
    return _borrowed(tensors), tensors


def _borrowed(tensors: dict[str, torch.Tensor]) -> Any:
    from lib_finetune.model.borrowed import BorrowedModel
    from lib_finetune.model.layout import infer

    return BorrowedModel(infer(tensors))


def _pickled_embedding(path: Path) -> dict[str, torch.Tensor]:
    import torch

    from lib_finetune.model import pickled

    try:
        stored = pickled.load(path)
    except pickled.ERRORS as error:
        raise InputError([Problem("--file", f"{path} cannot be read as an embedding: {error}")]) from error
    vectors = stored.get("string_to_param", stored) if isinstance(stored, dict) else {}
    found = {name: value.clone() for name, value in vectors.items() if isinstance(value, torch.Tensor)} if isinstance(vectors, dict) else {}
    if len(found) != 1:
        raise InputError([Problem("--file", f"{path} is no embedding: it holds {len(found)} tensors where one is expected.")])
    return found


def _with_embedding(
    tensors: dict[str, torch.Tensor], vectors: torch.Tensor, identifier: str
) -> tuple[dict[str, torch.Tensor], Callable[[list[str]], torch.Tensor]]:
    """The checkpoint's tensors with new rows in the table of tokens, and the encoding of prompts that uses them."""
    import torch

    from lib_finetune.model.names import text_to_ldm

    name = text_to_ldm("embeddings.token_embedding.weight")
    table = tensors[name]
    rows = vectors.float().reshape(-1, vectors.shape[-1])
    if rows.shape[1] != table.shape[1]:
        raise InputError([Problem("--file", f"the embedding has {rows.shape[1]} channels, the checkpoint {table.shape[1]}.")])
    ids = list(range(len(table), len(table) + len(rows)))
    return {**tensors, name: torch.cat([table, rows])}, lambda texts: tokens.encode_with(texts, identifier, ids)
