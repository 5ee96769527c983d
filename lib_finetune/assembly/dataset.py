"""The pictures of a run: those that are trained on, those held out, and those of the class."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.assembly.caption_templates import word_templates
from lib_finetune.assembly.method_traits import teaches_word
from lib_finetune.assembly.subjects import own_labels
from lib_finetune.config.settings import Settings
from lib_finetune.data.scan import Examined, Picture, Report, examined, scan
from lib_finetune.data.templates import load as load_templates
from lib_finetune.errors import InputError, Problem
from lib_finetune.files import at_home

if TYPE_CHECKING:
    from collections.abc import Callable

_FEWEST = 3
"""Pictures that are left to train on when some are held out."""


@dataclass(frozen=True)
class Dataset:
    """The pictures of a run, found and read."""

    subject: Report
    classes: Report | None
    held: tuple[Picture, ...] = ()
    """Of the subject's, those that are not trained on."""
    own_labels: tuple[str, ...] = ()
    """Words of folders that hold the subject of the settings; see `subjects.own_labels`."""

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The subject's that are trained on."""
        return tuple(picture for picture in self.subject.pictures if picture not in self.held)

    @property
    def everything(self) -> tuple[Picture, ...]:
        """The subject's and the class's."""
        return (*self.subject.pictures, *(self.classes.pictures if self.classes else ()))

    @property
    def views(self) -> int:
        """Pictures an epoch shows, repeats counted."""
        return sum(picture.repeats for picture in self.pictures)


def find(
    settings: Settings,
    look: Callable[[Path], Examined | str] = examined,
    on_picture: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Find the pictures.

    Args:
        look, on_picture: see `scan`.

    Raises:
        InputError: a folder is missing, unreadable or without a usable picture; both folders' problems at once.
    """
    problems: list[Problem] = []
    reports: dict[str, Report] = {}
    for field, folder in (("images", settings.data.images), ("class_images", settings.data.class_images)):
        try:
            if folder:
                reports[field] = scan(at_home(folder), field=f"data.{field}", look=look, on_picture=on_picture)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    pictures = reports["images"].pictures
    return Dataset(reports["images"], reports.get("class_images"), _held_out(settings, pictures), own_labels(settings, pictures))


def _held_out(settings: Settings, pictures: Sequence[Picture]) -> tuple[Picture, ...]:
    """The pictures for validation, drawn by the seed."""
    count, seed = settings.data.held_out, settings.training.seed
    most = min(len(pictures) // 3, len(pictures) - _FEWEST)
    if count and count > most:
        message = f"{count} of {len(pictures)} pictures: two thirds of them, and at least {_FEWEST}, must be left to train on. "
        message += f"Set it to {most} or less, or add pictures." if most > 0 else "Set it to 0, or add pictures."
        raise InputError([Problem("data.held_out", message)])
    return tuple(pictures[place] for place in sorted(random.Random(f"{seed}/held out").sample(range(len(pictures)), count)))


def class_report(folder: Path, count: int, on_picture: Callable[[int, int], None] | None = None) -> Report:
    """The first ``count`` of the class pictures that were made; ``on_picture`` as in `scan`."""
    report = scan(folder, field="data.class_count", on_picture=on_picture)
    return dataclasses.replace(report, pictures=report.pictures[:count])


def templates(settings: Settings) -> tuple[str, ...]:
    """The sentences around a word that is taught; none where none is.

    Raises:
        InputError: their file cannot be read.
    """
    if not teaches_word(settings):
        return ()
    return load_templates(word_templates(settings), "embedding.template")
