"""The one check before the first step: what is wrong with settings, images, names and the host, all of it at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lib_finetune.assembly import automatic_settings, builder, dataset
from lib_finetune.assembly.artifact_kinds import targets
from lib_finetune.assembly.initial_weights import without_missing_start_file
from lib_finetune.assembly.method_traits import teaches_word
from lib_finetune.assembly.rate_plan import RatePlan
from lib_finetune.config.settings import Settings
from lib_finetune.config.validation import validate
from lib_finetune.data.scan import examined
from lib_finetune.errors import InputError, Problem
from lib_finetune.export import lora_file
from lib_finetune.files import nearest
from lib_finetune.preflight import conflicts, teaching
from lib_finetune.training.optim import OPTIMIZERS

if TYPE_CHECKING:
    from lib_finetune.assembly.dataset import Dataset
    from lib_finetune.ports.host import Host

_Answer = TypeVar("_Answer")


def problems(settings: Settings, host: Host | None = None, resuming: bool = False) -> list[Problem]:
    """Everything that stands in the way of a training, for tab, API, queue, trial and command line alike.

    Args:
        host: None while no checkpoint is loaded; then names and the host's state are not looked at.
        resuming: a run continues from a saved state, so that its own file may exist and its start file may be gone.
    """
    return _examine(settings, host, resuming)[1]


def checked_dataset(
    settings: Settings, host: Host, resuming: bool = False, on_picture: Callable[[int, int], None] | None = None
) -> Dataset:
    """The images of a training without a problem; arguments as of `problems`.

    Args:
        on_picture: told (done, total) after each image that was looked at; what it raises, but for an `InputError`, ends the check.

    Raises:
        InputError: with all problems.
    """
    images, obstacles = _examine(settings, host, resuming, on_picture)
    if obstacles or images is None:
        raise InputError(obstacles)
    return images


def _examine(
    settings: Settings, host: Host | None, resuming: bool, on_picture: Callable[[int, int], None] | None = None
) -> tuple[Dataset | None, list[Problem]]:
    if resuming:
        settings = without_missing_start_file(settings)
    obstacles: list[Problem] = []

    def collect(check: Callable[[], _Answer]) -> _Answer | None:
        try:
            return check()
        except InputError as error:
            obstacles.extend(error.problems)
            return None

    collect(lambda: validate(settings))
    if any(problem.field == "method" for problem in obstacles):
        return None, obstacles  # nothing else can be asked of a method that there is not
    images = collect(lambda: _dataset(settings, host, on_picture)) if settings.data.images.strip() else None
    if host is not None and not any(problem.field == "name" for problem in obstacles):
        collect(lambda: _check_targets(settings, host, resuming))
        if teaches_word(settings):
            obstacles += conflicts.word_problems(settings, images, host.text_tools().tokenizer, host.paths)
    if images is not None:
        obstacles += [mask_problem(path, reason) for path, reason in images.subject.unusable_masks]
    if images is not None and not resuming:
        obstacles += teaching.problems(settings, images)
    obstacles += conflicts.method_problems(settings)
    if settings.optimizer.name in OPTIMIZERS:
        obstacles += conflicts.optimizer_problems(settings, host.device if host is not None else None)
    if images is not None and not obstacles and not resuming:  # a run that resumes looks at the steps that are left
        obstacles += collect(lambda: _idle_parts(settings, images)) or []
    if host is not None:
        obstacles += conflicts.precision_problems(settings, host.device)
        obstacles += [Problem("", reason) for reason in host.refusals()]
    return images, obstacles


def mask_problem(path: Path, reason: str) -> Problem:
    """What is wrong with a mask, and what can be done."""
    return Problem("data.masks", f'The mask "{path}" {reason}. Mend it or take it out of the folder, or set masks to off.')


def _idle_parts(settings: Settings, images: Dataset) -> list[Problem]:
    epoch = builder.data_plan(settings, images).epoch
    return conflicts.idle_problems(RatePlan(automatic_settings.resolved(settings, epoch, 1)[0]))


def _dataset(settings: Settings, host: Host | None, on_picture: Callable[[int, int], None] | None) -> Dataset:
    if settings.data.crop == "face" and host is not None:
        return dataset.find(settings, partial(examined, face=host.captions.face), on_picture)
    return dataset.find(settings, on_picture=on_picture)


def _check_targets(settings: Settings, host: Host, resuming: bool) -> None:
    files = list(targets(settings, host.paths, settings.name).values())
    for folder in dict.fromkeys([*(file.parent for file in files), host.paths.data / "runs"]):
        _check_writable(folder)  # first: a folder that may not be looked into does not tell whether a name is taken
    if not resuming:
        for file in files:
            lora_file.refuse_taken(file, settings.saving.overwrite)


def _check_writable(folder: Path) -> None:
    """The folder, or the nearest one above it that exists, takes new files."""
    place = nearest(folder)
    if not place.is_dir():
        raise InputError([Problem("name", f"{folder} cannot be made: {place} is a file.")])
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError([Problem("name", f"{place} is not writable. Check its permissions.")])
