"""All files of a training, to be listed before they are deleted: what goes, how much that is, and what stays and why."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_finetune.app.results import beside, is_own
from lib_finetune.runs.used_files import CLASSES, LATENTS, used_by

if TYPE_CHECKING:
    from lib_finetune.jobs.job import Job
    from lib_finetune.ports.host import Host

RUN = "log, saved states and previews"


@dataclass(frozen=True)
class TrainingFiles:
    """What deleting a training takes away.

    Attributes:
        results: (kind, file) of the result and the snapshots.
        run: the folder with log, states and previews.
        dropped: the folder of dropped images, or None where it stays.
        latents: encoded images that no other training uses.
        classes: folders of class images that no other training uses.
        stays: a sentence for each thing that stays, though it was used.
    """

    results: Sequence[tuple[str, Path]]
    run: Path
    dropped: Path | None
    latents: Sequence[Path]
    classes: Sequence[Path]
    stays: Sequence[str]

    def parts(self) -> list[dict[str, Any]]:
        """ "what", "count" of files and "bytes" of each thing that goes; what there is nothing of is left out."""
        results = [file for _, path in self.results for file in (path, *beside(path))]
        files = {
            "results and snapshots, with card and image": results,
            RUN: _files_below([self.run]),
            "dropped images and captions": _files_below([self.dropped] if self.dropped else []),
            "encoded images": list(self.latents),
            "class images": _files_below(self.classes),
        }
        return [{"what": what, "count": len(paths), "bytes": _bytes(paths)} for what, paths in files.items() if paths]

    def remove_shared(self) -> None:
        """Delete what lies outside of the run's folder and is no result."""
        for path in self.latents:
            path.unlink(missing_ok=True)
        for folder in (*self.classes, *([self.dropped] if self.dropped else [])):
            shutil.rmtree(folder, ignore_errors=True)


def files_of(job: Job) -> list[tuple[str, Path]]:
    """(kind, file) of a job's result and snapshots, as its record tells."""
    return [(kind, Path(path)) for files in (job.record.files, *job.record.points.values()) for kind, path in files.items()]


def everything_of(job: Job, all_jobs: Iterable[Job], host: Host) -> TrainingFiles:
    """The files of a training.

    Args:
        all_jobs: those that may use the same files.
    """
    others = [other for other in all_jobs if other is not job]
    results = [(kind, path) for kind, path in dict.fromkeys(files_of(job)) if is_own(job, host, kind, path) and path.is_file()]
    dropped, why = _dropped(job, others, host.paths.data)
    latents, classes, why_shared = _shared(job, others, host.paths.data)
    return TrainingFiles(results, job.folder, dropped, latents, classes, [*why, *why_shared])


def _dropped(job: Job, others: Sequence[Job], data: Path) -> tuple[Path | None, list[str]]:
    images, ours = job.settings.data.images, data / "datasets"
    folder = Path(images)
    if not images or not folder.is_dir():
        return None, []
    if folder.resolve().parent != ours.resolve():
        return None, ["The training images stay: they lie in a folder of your own."]
    if any(Path(other.settings.data.images) == folder for other in others):
        return None, ["The dropped images stay: another training uses them."]
    return folder, []


def _shared(job: Job, others: Sequence[Job], data: Path) -> tuple[list[Path], list[Path], list[str]]:
    """(encoded images, folders of class images, what stays)."""
    used = used_by(job.folder, data)
    if used is None:
        sentence = "Encoded images and class images stay: this training is of an earlier version, which did not note its own. Storage empties them all."
        return [], [], [sentence] * ((data / LATENTS).is_dir() or (data / CLASSES).is_dir())
    present = {path for path in used if path.exists()}
    if any(not other.ended for other in others):
        return [], [], ["Encoded images and class images stay: a run that goes on or waits may need them."] * bool(present)
    by_others = [used_by(other.folder, data) for other in others]
    foreign = set().union(*(places for places in by_others if places is not None))
    unknown = any(places is None and _may_have_used_classes(other) for other, places in zip(others, by_others, strict=True))
    own = present - foreign
    # A training that noted nothing may have used any set of class images; encoded images are soon made again.
    classes = sorted(path for path in own if path.parent == data / CLASSES and not unknown)
    latents = sorted(path for path in own if path.parent != data / CLASSES)
    stays = []
    if len(latents) < sum(path.parent != data / CLASSES for path in present):
        stays.append("Encoded images that another training uses stay.")
    if len(classes) < sum(path.parent == data / CLASSES for path in present):
        stays.append("The class images stay: another training uses them, or may.")
    return latents, classes, stays


def _may_have_used_classes(job: Job) -> bool:
    """Of a training that noted nothing."""
    return bool(job.record.started and job.settings.data.class_count)


def _files_below(folders: Iterable[Path]) -> list[Path]:
    return [Path(place) / file for folder in folders for place, _, files in os.walk(folder) for file in files]


def _bytes(paths: Iterable[Path]) -> int:
    total = 0
    for path in paths:
        try:
            total += path.lstat().st_size
        except OSError:  # deleted meanwhile
            continue
    return total
