"""A sheet: results beside the base and beside one another, on the same prompts and seeds, made by the host."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.config.settings import caption_template
from lib_finetune.data.captions import template_caption
from lib_finetune.export.picture import grid
from lib_finetune.ports.host import Host
from lib_finetune.ports.pictures import PictureRequest

if TYPE_CHECKING:
    from PIL import Image

    from lib_finetune.config.settings import Settings


@dataclass(frozen=True)
class Column:
    """A result at a weight, or the base.

    Attributes:
        label: above the pictures.
        files: kind → file; none for the base.
        word: what calls the subject where an embedding does ("zxq-cat"), else "" for the trigger word of the prompts.
        weight: of a LoRA.
    """

    label: str
    files: Mapping[str, Path]
    word: str = ""
    weight: float = 1.0


@dataclass(frozen=True)
class Row:
    """A prompt as it is written for the trigger word, and its seed."""

    prompt: str
    seed: int


@dataclass(frozen=True)
class Look:
    """How the pictures are made: side in px, sampling steps, guidance."""

    side: int = 512
    steps: int = 20
    guidance: float = 7.0


def columns_of(settings: Settings, label: str, files: Mapping[str, Path], weights: Sequence[float]) -> list[Column]:
    """A result's columns: one for each weight where it has one."""
    word = files["embedding"].stem if "embedding" in files else settings.name if settings.method == "pivotal_tuning" else ""
    if "lora" not in files:
        return [Column(label, files, word)]
    return [Column(f"{label} × {weight:g}", files, word, weight) for weight in weights]


def prompts_of(settings: Settings, prompts: Sequence[str]) -> list[str]:
    """The prompts with trigger and class word filled in; without any, the caption template's."""
    given = [prompt for prompt in (line.strip() for line in prompts) if prompt]
    return [template_caption(prompt, settings.data.trigger, settings.data.class_word) for prompt in given or [caption_template(settings)]]


def request(column: Column, row: Row, look: Look, trigger: str) -> PictureRequest:
    """What the host is asked for.

    Args:
        trigger: the word in the row's prompt that a column's own word takes the place of.
    """
    prompt = row.prompt
    if column.word and column.word not in prompt:
        found = re.sub(rf"(?<!\w){re.escape(trigger)}(?!\w)", lambda _: column.word, prompt) if trigger else prompt
        prompt = found if column.word in found else f"{column.word}, {prompt}"
    return PictureRequest(
        prompt,
        loras=((column.files["lora"], column.weight),) if "lora" in column.files else (),
        embeddings=(column.files["embedding"],) if "embedding" in column.files else (),
        checkpoint=column.files.get("checkpoint"),
        width_px=look.side,
        height_px=look.side,
        steps=look.steps,
        guidance=look.guidance,
        seed=row.seed,
    )


def make(
    host: Host,
    columns: Sequence[Column],
    rows: Sequence[Row],
    look: Look,
    trigger: str,
    on_picture: Callable[[int, int], None],
    stop_asked: Callable[[], bool],
) -> Image.Image | None:
    """The sheet, a row for each prompt; None when it was stopped.

    Column by column, so that a checkpoint is read once for all of its pictures where the host keeps it.

    Raises:
        FinetuneError: the host could not make a picture.
    """
    made: list[list[Image.Image]] = []
    for column in columns:
        pictures = []
        for row in rows:
            if stop_asked():
                return None
            pictures.append(host.picture(request(column, row, look, trigger)))
            on_picture(sum(map(len, made)) + len(pictures), len(columns) * len(rows))
        made.append(pictures)
    return grid(list(zip(*made, strict=True)), [column.label for column in columns], [f"{row.prompt} · seed {row.seed}" for row in rows])
