"""The images of a comparison grid: results beside the base and beside one another, on the same prompts and seeds, made by the host."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.assembly.caption_templates import caption_template
from lib_finetune.data.captions import template_caption
from lib_finetune.errors import PictureInterruptedError
from lib_finetune.export.clip_skip import clip_skip_of
from lib_finetune.export.picture import grid
from lib_finetune.ports.pictures import HostPictures, PictureRequest
from lib_finetune.text.extra_networks import without_networks

if TYPE_CHECKING:
    from PIL import Image

    from lib_finetune.config.settings import Settings


@dataclass(frozen=True)
class Column:
    """A result at a weight, or the base.

    Attributes:
        label: above the images.
        files: kind → file; none for the base.
        word: what calls the subject where an embedding does ("zxq-cat"), else "" for the trigger word of the prompts.
        weight: of a LoRA.
        clip_skip: that it was trained with; None: as the host is set.
        words: trigger and class word that are filled into its prompts; None where the rows' prompts are filled in already.
        figures: what is known of it, written beneath its images.
    """

    label: str
    files: Mapping[str, Path]
    word: str = ""
    weight: float = 1.0
    clip_skip: int | None = None
    words: tuple[str, str] | None = None
    figures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A prompt as it is written for the trigger word, or with places for the words of each column, and its seed."""

    prompt: str
    seed: int


@dataclass(frozen=True)
class Look:
    """How the images are made: side in px, sampling steps, guidance."""

    side: int = 512
    steps: int = 20
    guidance: float = 7.0


def columns_of(
    settings: Settings, label: str, files: Mapping[str, Path], weights: Sequence[float], figures: tuple[str, ...] = ()
) -> list[Column]:
    """A result's columns: one for each weight where it has one.

    Args:
        figures: see `Column`.
    """
    word = files["embedding"].stem if "embedding" in files else settings.name if settings.method == "pivotal_tuning" else ""
    clip_skip = trained_clip_skip(settings, files)
    if "lora" not in files:
        return [Column(label, files, word, clip_skip=clip_skip, figures=figures)]
    return [Column(f"{label} × {weight:g}", files, word, weight, clip_skip, figures=figures) for weight in weights]


def trained_clip_skip(settings: Settings, files: Mapping[str, Path]) -> int | None:
    """The clip skip that files were trained with: the settings', or what the file itself tells, since the host may be set anew by now."""
    return settings.training.clip_skip or clip_skip_of(files.values())


def prompts_of(settings: Settings, prompts: Sequence[str]) -> list[str]:
    """The prompts with trigger and class word filled in, without extra networks, for those would change every column; without any, the
    caption template's."""
    words = settings.data.trigger, settings.data.class_word
    return [without_networks(template_caption(prompt, *words))[0] for prompt in templates_of(settings, prompts)]


def templates_of(settings: Settings, prompts: Sequence[str]) -> list[str]:
    """As `prompts_of`, with the words' places as they are."""
    lines = [prompt for prompt in (without_networks(line.strip())[0] for line in prompts) if prompt]
    return lines or [caption_template(settings)]


def request(column: Column, row: Row, look: Look, trigger: str) -> PictureRequest:
    """What the host is asked for.

    Args:
        trigger: the word in the row's prompt that a column's own word takes the place of.
    """
    prompt = row.prompt
    if column.words is not None:
        prompt, trigger = template_caption(prompt, *column.words), column.words[0]
    if column.word and column.word not in prompt:
        with_word = re.sub(rf"(?<!\w){re.escape(trigger)}(?!\w)", lambda _: column.word, prompt) if trigger else prompt
        prompt = with_word if column.word in with_word else f"{column.word}, {prompt}"
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
        clip_skip=column.clip_skip,
    )


def make(
    pictures: HostPictures,
    columns: Sequence[Column],
    rows: Sequence[Row],
    look: Look,
    trigger: str,
    on_picture: Callable[[int, int], None],
    stop_asked: Callable[[], bool],
) -> Image.Image | None:
    """The images in a row for each prompt with its seed; None when it was stopped.

    Column by column, so that a checkpoint is read once for all of its images where the host keeps it.

    Raises:
        FinetuneError: the host could not make an image.
    """
    columns_of_images: list[list[Image.Image]] = []
    for column in columns:
        images = []
        for row in rows:
            if stop_asked():
                return None
            try:
                images.append(pictures.make(dataclasses.replace(request(column, row, look, trigger), interrupt_asked=stop_asked)))
            except PictureInterruptedError:
                if not stop_asked():
                    raise
                return None
            on_picture(sum(map(len, columns_of_images)) + len(images), len(columns) * len(rows))
        columns_of_images.append(images)
    return grid(
        list(zip(*columns_of_images, strict=True)),
        [column.label for column in columns],
        [f"{row.prompt} · seed {row.seed}" for row in rows],
        ["\n".join(column.figures) for column in columns] if any(column.figures for column in columns) else (),
    )
