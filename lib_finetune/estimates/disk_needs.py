"""What a run writes, by the disk that it goes to: the one account for the methods' cards, the forecast and the check before the start."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lib_finetune.assembly import automatic_settings
from lib_finetune.assembly.artifact_kinds import targets
from lib_finetune.estimates import memory_plan
from lib_finetune.files import nearest

if TYPE_CHECKING:
    from lib_finetune.config.settings import Settings
    from lib_finetune.data.plan import Epoch
    from lib_finetune.ports.files import Paths

STATES = "the saved states"
PREVIEW = "a preview's checkpoint"
_MOST_CLASS_PX = 512
_BYTES_A_PIXEL = 2
"""Of a painted image as PNG, rounded up."""


class Need(NamedTuple):
    """
    Attributes:
        folder: where it goes.
        size: bytes.
        name: what it is.
    """

    folder: Path
    size: int
    name: str


class Disk(NamedTuple):
    """
    Attributes:
        place: a folder on it.
        free: bytes.
        needs: what is to be written there.
    """

    place: Path
    free: int
    needs: tuple[Need, ...]

    @property
    def need(self) -> int:
        """Bytes of all that is to be written."""
        return sum(need.size for need in self.needs)


def needs(settings: Settings, views: Epoch | int, file: int, state: int, paths: Paths, classes: int = 1) -> list[Need]:
    """All that a run writes in quantity.

    Args:
        settings: resolved, in their form.
        views: what an epoch shows; a number stands for so many images of one size.
        file, state: bytes of one file of the result, and of one saved state.
        classes: of the subjects; each has class images of its own.
    """
    whole = settings.method == "dreambooth"
    shows = whole and settings.preview.enabled and settings.preview.every != 0
    runs = paths.data / "runs"
    return [
        Need(
            next(iter(targets(settings, paths, "x").values())).parent,
            memory_plan.files_at_once(settings, views) * file,
            "the checkpoint" if whole else "the files of the result",
        ),
        Need(runs, memory_plan.states_at_once(settings, views) * state, STATES),
        Need(runs, file * shows, PREVIEW),
        Need(paths.data / "classes", classes * _class_images(settings), "the class images"),
    ]


def disks(needed: Sequence[Need]) -> list[Disk]:
    """By disk, with what is free there; the fullest one first."""
    by_device: dict[int, list[Need]] = {}
    for need in needed:
        if need.size > 0:
            by_device.setdefault(nearest(need.folder).stat().st_dev, []).append(need)
    all_disks = []
    for parts in by_device.values():
        place = nearest(parts[0].folder)
        all_disks.append(Disk(place, shutil.disk_usage(place).free, tuple(parts)))
    return sorted(all_disks, key=lambda disk: disk.free - disk.need)


def _class_images(settings: Settings) -> int:
    """Bytes of those that are made."""
    if settings.data.class_images or automatic_settings.prior_of(settings) != "pictures":
        return 0
    return settings.data.class_count * min(_MOST_CLASS_PX, settings.data.resolution) ** 2 * _BYTES_A_PIXEL
