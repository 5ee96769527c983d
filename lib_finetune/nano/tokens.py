"""Prompts of the drawn world as the ids of the real CLIP tokenizer."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@lru_cache(maxsize=1)
def tokenizer() -> Any:
    """The tokenizer, built once in the process from open-clip-torch's word list.

    Raises:
        DependencyError: open-clip-torch is not installed.
    """
    from lib_finetune.model import tokenizer as clip

    with TemporaryDirectory() as folder:
        return clip.load(Path(folder))


def encode(texts: list[str]) -> torch.Tensor:
    """Prompts → ids: [b, 77] int64, padded with the end token."""
    return tokenizer()(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
