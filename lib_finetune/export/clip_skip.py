"""The clip skip that files were trained with, as they tell it themselves."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lib_finetune.errors import CheckpointError
from lib_finetune.model import checkpoint_reader

KEY = "ss_clip_skip"
"""kohya's name of it in the metadata of a LoRA; our embeddings and checkpoints bear it too."""


def clip_skip_of(files: Iterable[Path]) -> int | None:
    """What the first of the files that tells it tells; None where none does: old files, and kinds without metadata."""
    for path in files:
        with suppress(CheckpointError):  # a file that cannot be read is told where it is used
            stored = checkpoint_reader.metadata(path).get(KEY, "")
            if stored.isdecimal() and int(stored) > 0:
                return int(stored)
    return None
