"""Prompts of the drawn world as the ids of the real CLIP tokenizer."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_LENGTH = 77


@lru_cache(maxsize=1)
def tokenizer() -> Any:
    """The tokenizer, built once in the process from open-clip-torch's word list.

    Raises:
        DependencyError: open-clip-torch is not installed.
    """
    from lib_finetune.text import tokenizer as clip

    with TemporaryDirectory() as folder:
        return clip.load(Path(folder))


def encode(texts: list[str]) -> torch.Tensor:
    """Prompts → ids: [b, 77] int64, padded with the end token."""
    return tokenizer()(texts, padding="max_length", max_length=_LENGTH, truncation=True, return_tensors="pt").input_ids


def encode_with(texts: list[str], word: str, ids: list[int]) -> torch.Tensor:
    """As `encode`, but where ``word`` stands in a prompt come ``ids`` in its place."""
    import torch

    known = tokenizer()
    rows = []
    for text in texts:
        parts = re.split(rf"\b{re.escape(word)}\b", text)
        row: list[int] = []
        for number, part in enumerate(parts):
            row += [*(ids if number else []), *known(part, add_special_tokens=False).input_ids]
        row = [known.bos_token_id, *row[: _LENGTH - 2]]
        rows.append(row + [known.eos_token_id] * (_LENGTH - len(row)))
    return torch.tensor(rows)
