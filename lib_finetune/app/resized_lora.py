"""A LoRA with patches of another rank, from a LoRA file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lib_finetune.app.written_lora import WrittenLora, about_ranks, card_beside, rank_metadata
from lib_finetune.errors import InputError, Problem
from lib_finetune.export import bundled_word, lora_file
from lib_finetune.export.checkpoint_writer import DTYPES
from lib_finetune.export.low_rank import Keep
from lib_finetune.export.resizing import resize
from lib_finetune.model import weights_file


def made(source: Path, keep: Keep, precision: str, name: str, progress: Callable[[int, int], None]) -> WrittenLora:
    """Resize; a word in the file stays in it.

    Args:
        precision: of the file, "fp16", "bf16" or "fp32".
        name: of the new LoRA.
        progress: told (done, total) before each module; what it raises ends the work.

    Raises:
        InputError: the file is no LoRA of SD1.x, is damaged, or is of a kind that has no rank.
    """
    patches, words = bundled_word.parted(lora_file.read(source, "lora"))
    resized = resize(patches, keep, DTYPES[precision], source.name, "lora", progress)
    if not resized.after:
        raise InputError([Problem("lora", f"{source.name} holds no patch that has a rank, so there is nothing to resize.")])
    before, after = about_ranks(resized.before), about_ranks(resized.after)
    return WrittenLora(
        resized.tensors,
        {**weights_file.metadata(source, "lora"), **rank_metadata(name, resized.after, f"resized from {source.name}")},
        card_beside(source, weights_file.metadata(source, "lora"), f"Resized with Finetune from {source.stem}."),
        [f"Before {before}, now {after}; {resized.error:.1%} of the change is lost."],
        resized.error,
        words,
    )
