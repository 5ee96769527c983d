"""A job as plain values, for the tab and the API."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from lib_finetune.jobs.loss_series import thinned
from lib_finetune.runs.control import PAUSED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lib_finetune.jobs.job import Job
    from lib_finetune.jobs.progress import JobProgress
    from lib_finetune.ports.events import PreviewRow


def status_of(job: Job) -> dict[str, Any]:
    """A copy of everything that the tab shows."""
    with job.progress.lock:
        return {**figures_of(job), **series_of(job)}


def figures_of(job: Job) -> dict[str, Any]:
    """As `status_of`, without what grows with each step: `series_of`."""
    progress, control = job.progress, job.control
    with progress.lock:
        trains = progress.steps_per_s and progress.stage_name == "train"
        return {
            "id": job.folder.name,
            "name": job.settings.name,
            "state": progress.state,
            "stage": progress.stage_name,
            "done": progress.done,
            "total": progress.total,
            "message": job.message,
            "file": str(job.file) if job.file else None,
            "steps_per_s": progress.steps_per_s,
            "seconds_left": (progress.total - progress.done) / progress.steps_per_s if trains else None,
            "rates": _finite(progress.rates),
            "stopping": control.stop_asked(),
            "pausing": control.pause_asked(),
            "paused": progress.state == PAUSED,
            "scalars": _finite(progress.scalars),
            "validation": _curve(progress, "validation"),
            "watch": {name: _curve(progress, name) for name in progress.figures if name != "validation"},
            "previews": [_plain(row) for _, row in sorted(progress.rows.items())],
            "points": [{"step": step, "files": [str(path) for path in files.values()]} for step, files in sorted(job.snapshots.items())],
        }


class Extent(NamedTuple):
    """How much of a job's series there was at some time.

    Attributes:
        lines: of the log, also those that are not kept in memory.
        points: of the curve.
    """

    lines: int
    points: int


def extent_of(job: Job) -> Extent:
    """How much there is now."""
    with job.progress.lock:
        return Extent(job.progress.line_count, len(job.progress.curve.points))


def series_of(job: Job, now: Extent | None = None) -> dict[str, Any]:
    """What grows with each step: the losses, their smoothed curve, both thinned, and the last lines of the log.

    Args:
        now: what came after this extent is left out; None for nothing.
    """
    progress = job.progress
    with progress.lock:
        now = now or extent_of(job)
        lines, late = list(progress.lines), progress.line_count - now.lines
        return {
            "losses": thinned(progress.curve.points[: now.points]),
            "smooth": thinned(progress.curve.smooth[: now.points]),
            "log": lines[: max(0, len(lines) - late)],
        }


def added_since(job: Job, before: Extent, now: Extent) -> dict[str, Any]:
    """What was added to each of the series of `series_of` between two extents, unthinned."""
    progress = job.progress
    with progress.lock:
        first = progress.line_count - len(progress.lines)
        return {
            "losses": progress.curve.points[before.points : now.points],
            "smooth": progress.curve.smooth[before.points : now.points],
            "log": list(progress.lines)[max(0, before.lines - first) : max(0, now.lines - first)],
        }


def since(job: Job, line: int, step: int) -> dict[str, Any]:
    """Log lines after the first ``line`` and losses after ``step``, with the two numbers for the next question."""
    progress = job.progress
    with progress.lock:
        first = progress.line_count - len(progress.lines)
        return {
            "state": progress.state,
            "log": list(progress.lines)[max(0, line - first) :],
            "losses": [point for point in progress.curve.points if point[0] > step],
            "line": progress.line_count,
            "step": progress.losses[-1][0] if progress.losses else 0,
        }


def _curve(progress: JobProgress, name: str) -> list[tuple[int, float]]:
    return _finite_points(sorted(progress.figures.get(name, {}).items()))


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """The values without NaN and infinity, which JSON does not have: with one of them the server's answer would fail."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _finite_points(points: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    """As `_finite`, of a curve."""
    return [(step, value) for step, value in points if math.isfinite(value)]


def _plain(row: PreviewRow) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(row).items()}
