"""Figures of a result that mean something on photographs as well, and what it took to make it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.evaluation.watch import COLOUR
from lib_finetune.jobs.status import figures_of

if TYPE_CHECKING:
    from lib_finetune.jobs.job import Job


def measured_at(job: Job, step: int) -> tuple[str, ...]:
    """Validation loss and colour drift of a job at a step, in words; what was measured last before it names its own step."""
    figures = figures_of(job)
    curves = {"validation loss": figures["validation"], COLOUR: figures["watch"].get(COLOUR, ())}
    return tuple(text for name, points in curves.items() if (text := _at(name, points, step)))


def _at(name: str, points: Sequence[tuple[int, float]], step: int) -> str:
    before = [point for point in points if point[0] <= step]
    if not before:
        return ""
    where, value = before[-1]
    return f"{name} {value:.3g}" if where == step else f"{name} {value:.3g} (at step {where})"


def cost_of(job: Job) -> str:
    """Size of its files, time and the most memory that it took, as measured."""
    files = [Path(path) for path in job.record.files.values()]
    size = sum(path.stat().st_size for path in files if path.is_file())
    amount = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} KB"
    peak = f", {job.record.peak / 2**30:.1f} GiB" if job.record.peak else ""
    seconds = job.record.ended - job.record.started
    took = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
    return f"{amount}, {took}{peak}"
