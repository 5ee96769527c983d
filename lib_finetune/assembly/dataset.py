"""The images of a run: those that are trained on, those held out, and those of the class."""

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
from lib_finetune.data.folder_files import is_same, lies_in
from lib_finetune.data.masks import with_masks
from lib_finetune.data.scan import Examined, Picture, Report, examined, named, scan
from lib_finetune.data.templates import load as load_templates
from lib_finetune.data.templates import plain
from lib_finetune.errors import InputError, Problem
from lib_finetune.files import at_home, pasted_path

if TYPE_CHECKING:
    from collections.abc import Callable

_FEWEST = 3
"""Images that are left to train on when some are held out."""


@dataclass(frozen=True)
class Dataset:
    """The images of a run, found and read."""

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
    def class_files(self) -> tuple[Path, ...]:
        """The files of the class's images."""
        return tuple(picture.path for picture in self.classes.pictures) if self.classes else ()

    @property
    def views(self) -> int:
        """Images an epoch shows, repeats counted."""
        return sum(picture.repeats for picture in self.pictures)


def find(
    settings: Settings,
    look: Callable[[Path], Examined | str] = examined,
    on_picture: Callable[[int, int], None] | None = None,
    *,
    classes_too: bool = True,
) -> Dataset:
    """Find the images.

    Args:
        look, on_picture: see `scan`.
        classes_too: whether the class images are read; if not, they are known to be no training images all the same.

    Raises:
        InputError: a folder is missing, unreadable or without a usable image, or the class images lie around the training images;
            both folders' problems at once.
    """
    places = _places(settings)
    classes = places.get("class_images")
    problems: list[Problem] = []
    reports: dict[str, Report] = {}
    for field, folder in places.items():
        if field == "class_images" and not classes_too:
            continue
        try:
            apart = classes if field == "images" else None
            reports[field] = scan(folder, field=f"data.{field}", look=look, on_picture=on_picture, apart=apart)
        except InputError as error:
            problems += error.problems
    problems += _laid_out_otherwise(reports.get("class_images"))
    if problems:
        raise InputError(problems)
    subject = _with_masks(reports["images"], settings.data.masks)
    class_images = _with_note_on_same(_with_masks(reports["class_images"], "off"), subject) if "class_images" in reports else None
    labels = own_labels(settings, subject.pictures)
    return Dataset(subject, class_images, _held_out(settings, subject.pictures), labels)


def _places(settings: Settings) -> dict[str, Path]:
    """The folders of training images and of class images, which are not one: what is in the folder of class images is no training image.

    Raises:
        InputError: there is none of training images, or they lie in the folder of class images.
    """
    texts = {"images": settings.data.images, "class_images": settings.data.class_images}
    places = {field: at_home(text) for field, text in texts.items() if pasted_path(text)}
    if "images" not in places:
        raise InputError([Problem("data.images", "is empty. Name the folder that holds the images.")])
    images, classes = places["images"], places.get("class_images")
    if classes is not None and lies_in(images, classes):
        what = "is the folder of the training images" if is_same(images, classes) else f'holds the training images in "{images}"'
        message = (
            f'"{classes}" {what}. Class images show other members of the class and are kept in a separate folder. '
            "Name that folder, or leave the field empty."
        )
        raise InputError([Problem("data.class_images", message)])
    return places


def _laid_out_otherwise(classes: Report | None) -> list[Problem]:
    """Whether the folder of class images holds those in one of its folders, and training images in another."""
    if classes is None or classes.kohya is None:
        return []
    subject, own = classes.kohya
    message = f'"{classes.folder}" is laid out for kohya\'s trainers, with training images in {subject}. '
    message += f"Name {own}." if own else "Name the folder that holds the class images alone."
    return [Problem("data.class_images", message)]


def _with_masks(report: Report, source: str) -> Report:
    pictures, unusable = with_masks(report.pictures, source)
    return dataclasses.replace(report, pictures=pictures, unusable_masks=unusable)


def _with_note_on_same(classes: Report, subject: Report) -> Report:
    taught = {picture.content for picture in subject.pictures}
    same = [picture.name for picture in classes.pictures if picture.content in taught]
    if not same:
        return classes
    note = f"Class images that are the same files as training images, and would keep the model from learning them: {named(same)}."
    return dataclasses.replace(classes, notes=(*classes.notes, note))


def _held_out(settings: Settings, pictures: Sequence[Picture]) -> tuple[Picture, ...]:
    """The images for validation, drawn by the seed."""
    count, seed = settings.data.held_out, settings.training.seed
    most = min(len(pictures) // 3, len(pictures) - _FEWEST)
    if count and count > most:
        message = f"{count} of {len(pictures)} images: two thirds of them, and at least {_FEWEST}, must be left to train on. "
        message += f"Set it to {most} or less, or add images." if most > 0 else "Set it to 0, or add images."
        raise InputError([Problem("data.held_out", message)])
    return tuple(pictures[place] for place in sorted(random.Random(f"{seed}/held out").sample(range(len(pictures)), count)))


def class_report(folder: Path, count: int, on_picture: Callable[[int, int], None] | None = None) -> Report:
    """The first ``count`` of the class images that were made; ``on_picture`` as in `scan`."""
    report = scan(folder, field="data.class_count", on_picture=on_picture)
    return _with_masks(dataclasses.replace(report, pictures=report.pictures[:count]), "off")


def templates(settings: Settings) -> tuple[str, ...]:
    """The sentences around a word that is taught, as they are trained with; none where none is.

    Raises:
        InputError: their file cannot be read.
    """
    return tuple(map(plain, written_templates(settings)))


def written_templates(settings: Settings) -> tuple[str, ...]:
    """The same as they are written.

    Raises:
        InputError: their file cannot be read.
    """
    if not teaches_word(settings):
        return ()
    return load_templates(word_templates(settings), "embedding.template")
