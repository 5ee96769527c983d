"""A job as plain values, for the tab and the API."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from lib_finetune.runs.control import PAUSED
from lib_finetune.training.curve import SMOOTH

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lib_finetune.jobs.job import Job
    from lib_finetune.jobs.progress import JobProgress
    from lib_finetune.ports.events import PreviewRow

_POINTS_SHOWN = 400


def status_of(job: Job) -> dict[str, Any]:
    """A copy of everything that the tab shows of a job."""
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
            "losses": _thinned(_finite_points(progress.losses)),
            "smooth": _thinned(_smoothed(_finite_points(progress.losses))),
            "log": list(progress.lines),
            "stopping": control.stop_asked(),
            "pausing": control.pause_asked(),
            "paused": progress.state == PAUSED,
            "scalars": _finite(progress.scalars),
            "validation": _curve(progress, "validation"),
            "watch": {name: _curve(progress, name) for name in progress.figures if name != "validation"},
            "previews": [_plain(row) for _, row in sorted(progress.rows.items())],
            "points": [{"step": step, "files": [str(path) for path in files.values()]} for step, files in sorted(job.snapshots.items())],
        }


def since(job: Job, line: int, step: int) -> dict[str, Any]:
    """Log lines after the first ``line`` and losses after ``step``, with the two numbers for the next question."""
    progress = job.progress
    with progress.lock:
        first = progress.line_count - len(progress.lines)
        return {
            "state": progress.state,
            "log": list(progress.lines)[max(0, line - first) :],
            "losses": [point for point in _finite_points(progress.losses) if point[0] > step],
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


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    return points[:: max(1, len(points) // _POINTS_SHOWN)]


def _smoothed(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    smooth: list[tuple[int, float]] = []
    mean, weight = 0.0, 0.0
    for step, loss in points:
        # Divided by the weights so far, so that the curve does not begin at zero.
        mean, weight = SMOOTH * mean + (1 - SMOOTH) * loss, SMOOTH * weight + (1 - SMOOTH)
        smooth.append((step, mean / weight))
    return smooth
