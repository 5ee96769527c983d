"""What lies in Finetune's own folder, how large it is, and how it is emptied."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_finetune.errors import InputError, Problem
from lib_finetune.jobs import leftovers
from lib_finetune.jobs.folder_lock import in_use

if TYPE_CHECKING:
    from lib_finetune.jobs.queue import Jobs

PARTS = {
    "cache": "encoded images; the next run encodes them again",
    "classes": "class images; made again when they are needed",
    "datasets": "dropped images and their captions",
    "runs": "runs: logs, saved states, previews; results in the WebUI's folders stay",
    "sheets": "comparison grids",
    "exported": "exported settings",
    "thumbnails": "small copies of images; made again when they are looked at",
}


_NEEDED_BY_JOBS = ("cache", "classes", "datasets")


@dataclass(frozen=True)
class Part:
    """A part of the folder: its name, what it holds, and its size in bytes."""

    name: str
    holds: str
    size: int


class Storage:
    """The folder of one host's jobs."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._data = jobs.host.paths.data

    def parts(self) -> list[dict[str, Any]]:
        """Parts of the folder with their sizes in bytes."""
        outside = leftovers.size_outside(self._jobs.host.paths)  # half-written files of killed runs, which lie among the results
        return [asdict(replace(part, size=part.size + outside * (part.name == "runs"))) for part in parts(self._data)]

    def empty(self, part: str) -> int:
        """Empty a part; what jobs that have not ended need stays. Returns the bytes freed.

        Raises:
            InputError: no such part, or a job needs it now.
        """
        jobs = self._jobs.known.all()
        busy = [job for job in jobs if not job.ended]
        if part in _NEEDED_BY_JOBS and busy:
            raise InputError([Problem("part", f"A job runs or waits, and may need the {part}. Empty it when all have ended.")])
        keep = {job.folder for job in busy}
        if part == "runs":  # of the command line, or just being made: no job tells of them
            keep |= {folder for folder in _folders(self._data / part) if folder not in keep and in_use(folder)}
        journals = 0  # what clearing takes from the runs' folders and from beside the results
        if part == "runs":
            paths = self._jobs.host.paths
            before = leftovers.size_outside(paths) + _size(self._data / part)
            leftovers.clear_all(paths)
            journals = before - leftovers.size_outside(paths) - _size(self._data / part)
        freed = journals + empty(self._data, part, keep)
        if part == "runs":
            for job in jobs:
                if job.folder not in keep:
                    self._jobs.forget(job.folder.name)
        return freed


def parts(data: Path) -> list[Part]:
    """All parts, those that are not there with size 0."""
    return [Part(name, holds, _size(data / name)) for name, holds in PARTS.items()]


def empty(data: Path, name: str, keep: Collection[Path] = ()) -> int:
    """Delete a part; returns the bytes that were freed.

    Args:
        keep: entries of the part that stay (runs that are going on).

    Raises:
        InputError: there is no such part.
    """
    if name not in PARTS:
        raise InputError([Problem("part", f"There is no part {name!r}: {', '.join(PARTS)}.")])
    before = _size(data / name)
    for entry in (data / name).iterdir() if (data / name).is_dir() else ():
        if entry in keep:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    return before - _size(data / name)


def _folders(place: Path) -> list[Path]:
    return [entry for entry in place.iterdir() if entry.is_dir() and not entry.is_symlink()] if place.is_dir() else []


def _size(folder: Path) -> int:
    total = 0
    for place, _, files in os.walk(folder):
        for file in files:
            try:
                total += (Path(place) / file).lstat().st_size
            except OSError:  # deleted meanwhile
                continue
    return total
