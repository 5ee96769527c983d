"""Jobs and the queue as plain values, for pages and API clients."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from lib_finetune.app.results import call, choices
from lib_finetune.jobs.loss_series import thinned
from lib_finetune.jobs.status import figures_of, series_of, since
from lib_finetune.runs.folder import RunFolder

if TYPE_CHECKING:
    from lib_finetune.jobs.job import Job
    from lib_finetune.jobs.queue import Jobs

_OF_THE_RECORD = ("group", "created", "started", "ended", "steps", "peak", "picked", "files")


def view(job: Job) -> dict[str, Any]:
    """What it is doing, its record, and what it made."""
    return {**figures(job), **series_of(job)}


def figures(job: Job) -> dict[str, Any]:
    """As `view`, without what grows with each step: losses, their smoothed curve, the log."""
    record = dataclasses.asdict(job.record)
    files_by_step = {str(step): {kind: str(path) for kind, path in files.items()} for step, files in choices(job).items()}
    shown = {**figures_of(job), **{name: record[name] for name in _OF_THE_RECORD}, "choices": files_by_step, "call": call(job)}
    can_go_on = job.state in ("interrupted", "stopped") and RunFolder(job.folder).resumes()
    return {**shown, "method": job.settings.method, "can_go_on": can_go_on}


def curves(job: Job, step: int, line: int) -> dict[str, Any]:
    """What the page draws of a job: its curves after a step, and its log after a line, with the numbers to ask with next time.

    Args:
        step: -1 for all, thinned.
        line: 0 for all that are kept.

    Returns:
        "losses", "smooth": (step, loss) after ``step``; "validation": (step, loss), all; "snapshots": their steps; "log": lines; "step"
        and "line": to ask with; "ended".
    """
    with job.progress.lock:
        new, curve = since(job, line, step), job.progress.curve
        smooth = [point for point in curve.smooth if point[0] > step]
        last = curve.points[-1][0] if curve.points else -1
    return {
        "losses": thinned(new["losses"]),
        "smooth": thinned(smooth),
        "validation": figures_of(job)["validation"],
        "snapshots": sorted(choices(job)),
        "log": new["log"],
        "line": new["line"],
        "step": last,
        "ended": job.ended,
    }


def queue(jobs: Jobs) -> dict[str, Any]:
    """Jobs that wait in their order, whether the queue is held, and why nothing can begin, if so."""
    return {"queue": [job.folder.name for job in jobs.known.waiting()], "held": jobs.held, "lost": jobs.lost}


def background_tasks(jobs: Jobs) -> list[dict[str, Any]]:
    """Background tasks of this session."""
    return [task.status() for task in jobs.tasks.all()]
