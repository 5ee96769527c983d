"""A job: a run that was asked for, whose status can be asked from anywhere, and what is left of it after a restart."""

from __future__ import annotations

import csv
import dataclasses
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib_finetune.assembly.artifact_kinds import artifact_kinds_of
from lib_finetune.config.settings import Settings
from lib_finetune.jobs.record import Record
from lib_finetune.ports.events import PreviewRow, StepReport
from lib_finetune.runs import previews
from lib_finetune.runs.control import PAUSED
from lib_finetune.runs.folder import RunFolder

_log = logging.getLogger(__name__)
_LINES_KEPT = 500
_POINTS_SHOWN = 400
_SMOOTH = 0.95

QUEUED, RUNNING, WAITING, DONE, STOPPED, DISCARDED, FAILED = "queued", "running", "waiting", "done", "stopped", "discarded", "failed"
INTERRUPTED = "interrupted"
ACTIVE = (RUNNING, WAITING, PAUSED)
ENDED = (DONE, STOPPED, DISCARDED, FAILED, INTERRUPTED)


@dataclass
class Job:
    """A run that was asked for. Implements `ports.ProgressSink` and `Control`; every method may be called from any thread."""

    settings: Settings
    folder: Path
    state: str = QUEUED
    stage_name: str = ""
    done: int = 0
    total: int = 0
    message: str = ""
    file: Path | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LINES_KEPT))
    losses: list[tuple[int, float]] = field(default_factory=list)
    rates: dict[str, float] = field(default_factory=dict)
    steps_per_s: float = 0.0
    by_step: dict[int, dict[str, Path]] = field(default_factory=dict)
    """Step → kind → file saved on the way."""
    record: Record = field(default_factory=lambda: Record(QUEUED))
    old: bool = False
    """Whether it is of an earlier session."""
    _stop: bool = False
    _discard: bool = False
    _load: bool = False
    _said: int = 0
    _pause: bool = False
    _preview: bool = False
    _save: bool = False
    _scalars: dict[str, float] = field(default_factory=dict)
    _figures: dict[str, dict[int, float]] = field(default_factory=dict)
    _rows: dict[int, PreviewRow] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    # -- control: what the person wants ----------------------------------------------------------------------------

    def stop(self, *, keep: bool) -> None:
        """End after the step that runs; ``keep`` writes the file of what was trained so far."""
        with self._lock:
            self._stop, self._discard = True, not keep

    def load_checkpoint(self) -> None:
        """While waiting for a checkpoint: load it and go on."""
        with self._lock:
            self._load = True

    def pause(self) -> None:
        """Rest after the step that runs, until `resume`; what was trained so far is saved and the WebUI is free."""
        with self._lock:
            self._pause = True

    def resume(self) -> None:
        """Go on after a pause."""
        with self._lock:
            self._pause = False

    def preview_now(self) -> None:
        """Make a preview after the step that runs (at once while paused)."""
        with self._lock:
            self._preview = True

    def save_now(self) -> None:
        """Save the file as trained so far, after the step that runs (at once while paused), and keep it."""
        with self._lock:
            self._save = True

    def stop_asked(self) -> bool:
        """See `Control`."""
        return self._stop

    def discard_asked(self) -> bool:
        """See `Control`."""
        return self._discard

    def load_asked(self) -> bool:
        """See `Control`."""
        with self._lock:
            asked, self._load = self._load, False
            return asked

    def pause_asked(self) -> bool:
        """See `Control`."""
        return self._pause

    def preview_asked(self) -> bool:
        """See `Control`."""
        with self._lock:
            asked, self._preview = self._preview, False
            return asked

    def save_asked(self) -> bool:
        """See `Control`."""
        with self._lock:
            asked, self._save = self._save, False
            return asked

    # -- sink: what the run tells ----------------------------------------------------------------------------------

    def stage(self, name: str, done: int = 0, total: int = 0) -> None:
        """See `ports.ProgressSink`."""
        with self._lock:
            self.stage_name = name
            self.state = PAUSED if name == PAUSED else WAITING if name.startswith("waiting") else RUNNING
            if total:
                self.done, self.total = done, total

    def steps(self, report: StepReport) -> None:
        """See `ports.ProgressSink`."""
        with self._lock:
            first = report.step - len(report.losses) + 1
            self.losses += [(first + place, loss) for place, loss in enumerate(report.losses)]
            self.state, self.stage_name = RUNNING, "train"
            self.done, self.total, self.rates = report.step, report.total, dict(report.rates)
            self._scalars = dict(report.scalars)
            fresh = len(report.losses) / max(report.seconds, 1e-9)
            self.steps_per_s = fresh if not self.steps_per_s else 0.8 * self.steps_per_s + 0.2 * fresh
        self._append(RunFolder(self.folder).losses, [[first + place, f"{loss:.6g}"] for place, loss in enumerate(report.losses)])

    def say(self, message: str) -> None:
        """See `ports.ProgressSink`."""
        stamp = time.strftime("%H:%M:%S")
        with self._lock:
            self.lines.append(f"{stamp} {message}")
            self._said += 1
        self._append(RunFolder(self.folder).log, [[stamp, message]])

    def figure(self, name: str, step: int, value: float) -> None:
        """See `ports.ProgressSink`."""
        with self._lock:
            self._figures.setdefault(name, {})[step] = value

    def previewed(self, row: PreviewRow) -> None:
        """See `ports.ProgressSink`."""
        with self._lock:
            self._rows[row.step] = row

    def points(self, points: Sequence[tuple[int, Sequence[Path]]]) -> None:
        """See `ports.ProgressSink`."""
        with self._lock:
            kinds = [product.kind for product in artifact_kinds_of(self.settings)]
            self.by_step = {step: dict(zip(kinds, files, strict=True)) for step, files in points}
            self.record.points = {str(step): {kind: str(path) for kind, path in files.items()} for step, files in self.by_step.items()}
        if RunFolder(self.folder).record.is_file():  # so that they are known when this program is killed
            self.record.save(self.folder)

    def recall(self) -> None:
        """Find the previews and figures of an earlier session in the folder."""
        rows, curves = previews.stored(RunFolder(self.folder))
        for row in rows.values():
            self.previewed(row)
        for name, curve in curves.items():
            for step, value in curve:
                self.figure(name, step, value)

    def _append(self, path: Path, rows: list[list[Any]]) -> None:
        try:
            with path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(rows)
        except OSError as error:  # a full disk must not end a training that needs none
            _log.warning("%s cannot be written: %s", path, error)

    # -- what is shown ---------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """A copy of everything that the tab shows, as plain values."""
        with self._lock:
            left = (self.total - self.done) / self.steps_per_s if self.steps_per_s and self.stage_name == "train" else None
            return {
                "id": self.folder.name,
                "name": self.settings.name,
                "state": self.state,
                "stage": self.stage_name,
                "done": self.done,
                "total": self.total,
                "message": self.message,
                "file": str(self.file) if self.file else None,
                "steps_per_s": self.steps_per_s,
                "seconds_left": left,
                "rates": dict(self.rates),
                "losses": _thinned(self.losses),
                "smooth": _thinned(_smoothed(self.losses)),
                "log": list(self.lines),
                "stopping": self._stop,
                "pausing": self._pause,
                "paused": self.state == PAUSED,
                "scalars": dict(self._scalars),
                "validation": self._curve("validation"),
                "watch": {name: self._curve(name) for name in self._figures if name != "validation"},
                "previews": [_plain(row) for _, row in sorted(self._rows.items())],
                "points": [{"step": step, "files": [str(path) for path in files.values()]} for step, files in sorted(self.by_step.items())],
            }

    def since(self, line: int, step: int) -> dict[str, Any]:
        """What was said after the first ``line`` lines and measured after ``step``, with the numbers to ask with next time."""
        with self._lock:
            first = self._said - len(self.lines)
            return {
                "state": self.state,
                "log": list(self.lines)[max(0, line - first) :],
                "losses": [point for point in self.losses if point[0] > step],
                "line": self._said,
                "step": self.losses[-1][0] if self.losses else 0,
            }

    def _curve(self, name: str) -> list[tuple[int, float]]:
        return sorted(self._figures.get(name, {}).items())

    @property
    def ended(self) -> bool:
        """Whether it will not go on by itself."""
        return self.state in ENDED


def _plain(row: PreviewRow) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(row).items()}


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    every = max(1, len(points) // _POINTS_SHOWN)
    return points[::every]


def _smoothed(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    smooth: list[tuple[int, float]] = []
    mean, weight = 0.0, 0.0
    for step, loss in points:
        # Divided by the weights so far, so that the curve does not begin at zero.
        mean, weight = _SMOOTH * mean + (1 - _SMOOTH) * loss, _SMOOTH * weight + (1 - _SMOOTH)
        smooth.append((step, mean / weight))
    return smooth


def revived(settings: Settings, folder: Path, record: Record) -> Job:
    """A job of an earlier session, as its folder tells."""
    job = Job(settings, folder, record=record, old=True)
    job.state, job.message = job.record.state, job.record.message
    if job.state not in (QUEUED, *ENDED):
        left = RunFolder(job.folder).resumes()
        job.message = "The WebUI was ended while this ran. " + (
            "It can go on from its last saved state." if left else "It had saved no state yet."
        )
        job.state = INTERRUPTED
    paths = [Path(path) for path in job.record.files.values()]
    job.file = paths[0] if paths else None
    job.by_step = {int(step): {kind: Path(path) for kind, path in files.items()} for step, files in job.record.points.items()}
    job.losses = [(int(step), float(loss)) for step, loss in _rows(RunFolder(job.folder).losses) if step.isdigit() and _is_number(loss)]
    job.lines.extend(" ".join(row) for row in _rows(RunFolder(job.folder).log))
    job._said = len(job.lines)
    job.recall()
    if job.losses:
        job.done = job.total = job.losses[-1][0]
    return job


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _rows(path: Path) -> list[list[str]]:
    """Pairs from a file of ours; what was torn when the program was killed is passed over."""
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            return [row for row in csv.reader(file) if len(row) == 2]
    except OSError:
        return []
