"""Whether a training says what it teaches, and whether its steps are enough to see the images."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from lib_finetune.assembly import automatic_settings, builder
from lib_finetune.assembly.method_traits import teaches_word
from lib_finetune.assembly.subjects import subjects_of
from lib_finetune.data import captions
from lib_finetune.errors import Problem

if TYPE_CHECKING:
    from lib_finetune.assembly.dataset import Dataset
    from lib_finetune.config.settings import Settings
    from lib_finetune.data.captioning import Captioning
    from lib_finetune.data.plan import Plan as DataPlan
    from lib_finetune.data.scan import Picture


def problems(settings: Settings, images: Dataset) -> list[Problem]:
    """What keeps a prompt from calling what is taught: nothing says what it is. A style may be taught so; see `warnings`."""
    if settings.data.kind == "style" or settings.method == "dreambooth" or not _nothing_is_said(settings, images):
        return []  # DreamBooth always asks for a trigger word
    message = (
        "is empty, and neither a class word, captions nor the folders' names say what is taught. Give a trigger word such as zxq, or write "
        "captions."
    )
    return [Problem("data.trigger", message)]


def warnings(settings: Settings, images: Dataset) -> list[str]:
    """What a training may do and a person should know of before: what is not said, and images that are not seen."""
    plan = builder.data_plan(settings, images)
    definite = automatic_settings.resolved(settings, plan.epoch, clip_skip=1)[0]  # which does not matter here
    return _of_words(settings, images) + _of_validation(settings, images) + _of_steps(definite, plan)


def _of_validation(settings: Settings, images: Dataset) -> list[str]:
    """Subjects of which every image is held out for validation."""
    everything = subjects_of(settings, dataclasses.replace(images, held=()))
    taught = {subject.words for subject in subjects_of(settings, images)}
    return [
        f'All images of "{subject.words}" are validation images, so it is not taught: lower data.held_out, or add images of it.'
        for subject in everything
        if subject.words not in taught
    ]


def _of_words(settings: Settings, images: Dataset) -> list[str]:
    silent = _silent(settings, images)
    if not silent:
        return []
    if _nothing_is_said(settings, images):
        if settings.data.kind == "style":
            return ["Nothing says what is taught: the style has no word that calls it, and comes with every prompt."]
        return ["Nothing says what is taught: there is neither a trigger word, a class word nor a caption."]
    message = f"{silent} of {len(images.pictures)} images have nothing that says what they show: no caption, "
    return [message + "and there is neither a trigger word nor a class word."]


def _of_steps(settings: Settings, plan: DataPlan) -> list[str]:
    accumulation = settings.training.accumulation
    views = plan.views(0, (settings.training.steps or 0) * accumulation)
    if all(views):
        return []
    needed, seen = -(-plan.epoch_steps // accumulation), sum(map(bool, views))
    message = f"The steps are too few to see every image once: {seen} of {len(views)} are seen. "
    return [message + f"Set training.steps to {needed} at least, better to many times as much."]


def _nothing_is_said(settings: Settings, images: Dataset) -> bool:
    return _silent(settings, images) == len(images.pictures) > 0


def _silent(settings: Settings, images: Dataset) -> int:
    """Number of images that have nothing that says what they show."""
    if teaches_word(settings):
        return 0  # the word stands in every caption
    captioning = builder.captioning_of(settings, images)
    return sum(not _says_something(captioning, picture) for picture in images.pictures)


def _says_something(captioning: Captioning, picture: Picture) -> bool:
    """Whether a caption says what the image shows: not so where it is empty, or a template into which nothing was filled."""
    template = captioning.template
    unfilled = {captions.template_caption(template, "", "")} if captions.has_places(template) else set()
    return any(text.strip() and text not in unfilled for text in captioning.every(picture))
