"""The progress of a job, as its run reports it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.jobs.loss_series import LossSeries
from lib_finetune.jobs.states import QUEUED, RUNNING, WAITING
from lib_finetune.runs import previews
from lib_finetune.runs.control import PAUSED
from lib_finetune.runs.folder import RunFolder

if TYPE_CHECKING:
    from lib_finetune.jobs.log_files import LogFiles
    from lib_finetune.ports.events import PreviewRow, StepReport

_LINES_KEPT = 500
VALIDATION = "validation"
"""The figure that is the loss on the validation images."""


class JobProgress:
    """Implements `ports.events.ProgressSink`; every method may be called from any thread.

    Attributes:
        state: see `jobs.states`.
        stage_name: of the run.
        done, total: of the stage; steps while it trains.
        lines: of the log, with their times.
        line_count: number of all lines, including those that are no longer in memory.
        losses: (step, loss).
        curve: of the losses, as it is shown.
        rates: learning rate by group.
        scalars: further figures of the last step.
        snapshots: step → files of the snapshot, the main one first.
        rows: step → row of previews.
        figures: name → step → measured value.
        lock: held while several attributes are read together.
    """

    def __init__(self, log_files: LogFiles, snapshots_changed: Callable[[], None] = lambda: None) -> None:
        """
        Args:
            snapshots_changed: called after `snapshots` has changed.
        """
        self._log_files = log_files
        self._snapshots_changed = snapshots_changed
        self.state = QUEUED
        self.stage_name = ""
        self.done = self.total = self.line_count = 0
        self.lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self.losses: list[tuple[int, float]] = []
        self.curve = LossSeries()
        self.rates: dict[str, float] = {}
        self.steps_per_s = 0.0
        self.scalars: dict[str, float] = {}
        self.snapshots: dict[int, list[Path]] = {}
        self.rows: dict[int, PreviewRow] = {}
        self.figures: dict[str, dict[int, float]] = {}
        self.lock = threading.RLock()

    def stage(self, name: str, done: int = 0, total: int = 0) -> None:
        """See `ProgressSink`."""
        with self.lock:
            self.stage_name = name
            self.state = PAUSED if name == PAUSED else WAITING if name.startswith("waiting") else RUNNING
            if total:
                self.done, self.total = done, total

    def steps(self, report: StepReport) -> None:
        """See `ProgressSink`."""
        first = report.step - len(report.losses) + 1
        with self.lock:
            points = [(first + place, loss) for place, loss in enumerate(report.losses)]
            self.losses += points
            self.curve.add(points)
            self.state, self.stage_name = RUNNING, "train"
            self.done, self.total, self.rates = report.step, report.total, dict(report.rates)
            self.scalars = dict(report.scalars)
            speed = len(report.losses) / max(report.seconds, 1e-9)
            self.steps_per_s = speed if not self.steps_per_s else 0.8 * self.steps_per_s + 0.2 * speed
        self._log_files.add_losses(first, report.losses)

    def say(self, message: str) -> None:
        """See `ProgressSink`."""
        time_of_day = time.strftime("%H:%M:%S")
        with self.lock:
            self.lines.append(f"{time_of_day} {message}")
            self.line_count += 1
        self._log_files.add_line(time_of_day, message)

    def figure(self, name: str, step: int, value: float) -> None:
        """See `ProgressSink`."""
        with self.lock:
            is_new = self.figures.setdefault(name, {}).get(step) != value
            self.figures[name][step] = value
        if name == VALIDATION and is_new:  # a run that resumes tells what it had measured before
            self._log_files.add_validation(step, value)

    def previewed(self, row: PreviewRow) -> None:
        """See `ProgressSink`."""
        with self.lock:
            self.rows[row.step] = row

    def points(self, points: Sequence[tuple[int, Sequence[Path]]]) -> None:
        """See `ProgressSink`."""
        with self.lock:
            self.snapshots = {step: list(files) for step, files in points}
        self._snapshots_changed()

    def recall(self, folder: Path) -> None:
        """Take over the progress that an earlier session left in the run's folder."""
        self.losses = self._log_files.losses()
        self.curve.add(self.losses)
        self.lines.extend(self._log_files.lines())
        self.line_count = len(self.lines)
        rows, curves = previews.stored(RunFolder(folder))
        for row in rows.values():
            self.previewed(row)
        for name, curve in {VALIDATION: self._log_files.validation(), **curves}.items():
            self.figures[name] = {**self.figures.get(name, {}), **dict(curve)}
        if self.losses:
            self.done = self.total = self.losses[-1][0]
