"""Jobs: runs in a thread of their own, one after another, whose status can be asked from anywhere; they outlive the page."""

from __future__ import annotations

import csv
import dataclasses
import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib_finetune.config.settings import Settings
from lib_finetune.errors import FinetuneError, InputError
from lib_finetune.ports import Host, PreviewRow, StepReport
from lib_finetune.run import PAUSED, STATE, Result, Run

_log = logging.getLogger(__name__)
_LINES_KEPT = 500
_POINTS_SHOWN = 400
_SMOOTH = 0.95

QUEUED, RUNNING, WAITING, DONE, STOPPED, DISCARDED, FAILED = "queued", "running", "waiting", "done", "stopped", "discarded", "failed"
ACTIVE = (RUNNING, WAITING, PAUSED)
ENDED = (DONE, STOPPED, DISCARDED, FAILED)


@dataclass
class Job:
    """A run that was asked for. Implements `ports.ProgressSink` and `run.Control`; every method may be called from any thread."""

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
    _stop: bool = False
    _discard: bool = False
    _load: bool = False
    _pause: bool = False
    _preview: bool = False
    _save: bool = False
    _scalars: dict[str, float] = field(default_factory=dict)
    _figures: dict[str, dict[int, float]] = field(default_factory=dict)
    _rows: dict[int, PreviewRow] = field(default_factory=dict)
    _points: list[tuple[int, list[str]]] = field(default_factory=list)
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
        """See `run.Control`."""
        return self._stop

    def discard_asked(self) -> bool:
        """See `run.Control`."""
        return self._discard

    def load_asked(self) -> bool:
        """See `run.Control`."""
        with self._lock:
            asked, self._load = self._load, False
            return asked

    def pause_asked(self) -> bool:
        """See `run.Control`."""
        return self._pause

    def preview_asked(self) -> bool:
        """See `run.Control`."""
        with self._lock:
            asked, self._preview = self._preview, False
            return asked

    def save_asked(self) -> bool:
        """See `run.Control`."""
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
        self._append("losses.csv", [[first + place, f"{loss:.6g}"] for place, loss in enumerate(report.losses)])

    def say(self, message: str) -> None:
        """See `ports.ProgressSink`."""
        stamp = time.strftime("%H:%M:%S")
        with self._lock:
            self.lines.append(f"{stamp} {message}")
        self._append("log.csv", [[stamp, message]])

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
            self._points = [(step, [str(path) for path in files]) for step, files in points]

    def _append(self, name: str, rows: list[list[Any]]) -> None:
        try:
            with (self.folder / name).open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(rows)
        except OSError as error:  # a full disk must not end a training that needs none
            _log.warning("%s cannot be written: %s", self.folder / name, error)

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
                "points": [{"step": step, "files": files} for step, files in self._points],
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


class Jobs:
    """The runner of one host: takes jobs in order and keeps those of this session."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._jobs: list[Job] = []
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    def submit(self, settings: Settings, folder: Path | None = None) -> Job:
        """Check the input and queue a run.

        Args:
            folder: of a run to continue; None starts a new one.

        Raises:
            InputError: everything that is wrong with the input; nothing was queued.
        """
        place = folder or new_folder(self.host, settings.name)
        job = self.check(settings, place)
        with self._wake:
            if any(other.settings.name == settings.name and not other.ended for other in self._jobs):
                raise InputError(f"A job with the name {settings.name} is running or waits already. Give this one another name.")
            self._jobs.append(job)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="finetune", daemon=True)
                self._thread.start()
            self._wake.notify()
        return job

    def check(self, settings: Settings, folder: Path | None = None) -> Job:
        """Look for everything that can be wrong, without starting; returns a job that could be queued.

        Raises:
            InputError: with all problems.
        """
        job = Job(settings, folder or new_folder(self.host, settings.name))
        Run(settings, self.host, job.folder, job, job).check()
        return job

    def all(self) -> list[Job]:
        """Jobs of this session, oldest first."""
        with self._wake:
            return list(self._jobs)

    def current(self) -> Job | None:
        """The job that runs, else the one that ended last, else None."""
        jobs = self.all()
        running = [job for job in jobs if job.state in (RUNNING, WAITING)]
        ended = [job for job in jobs if job.ended]
        found = running or ended[-1:] or jobs
        return found[0] if found else None

    def _work(self) -> None:
        while True:
            with self._wake:
                job = next((job for job in self._jobs if job.state == QUEUED), None)
                if job is None:
                    self._wake.wait()
                    continue
                job.state = RUNNING
            self._execute(job)

    def _execute(self, job: Job) -> None:
        try:
            if job.stop_asked():
                job.state = DISCARDED
                return
            result: Result = Run(job.settings, self.host, job.folder, job, job).execute()
            job.file, job.message, job.state = result.file, _ending(result), result.outcome
        except FinetuneError as error:
            self._failed(job, str(error))
        except Exception as error:  # noqa: BLE001  an edge: shown or logged
            _log.exception("The job %s failed", job.folder.name)
            self._append_traceback(job)
            self._failed(job, f"Something went wrong that should not: {error!r}. The details are in {job.folder / 'traceback.txt'}.")

    def _failed(self, job: Job, message: str) -> None:
        job.say(message)
        job.message, job.state = message, FAILED

    def _append_traceback(self, job: Job) -> None:
        try:
            (job.folder / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
        except OSError:
            _log.warning("The traceback could not be written to %s", job.folder)


def _ending(result: Result) -> str:
    if result.file is None:
        return "Stopped; no file was written."
    return f"{'Done' if result.outcome == DONE else 'Stopped'}: {result.file.name}, {result.steps} steps. {result.restoration.line}"


def new_folder(host: Host, name: str) -> Path:
    """A folder for a new run, named by time; made when the run starts."""
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)[:60] or "run"
    base = host.paths.data / "runs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{safe}"
    number = 2
    folder = base
    while folder.exists():
        folder, number = base.with_name(f"{base.name}-{number}"), number + 1
    return folder


def unfinished(host: Host, name: str | None = None) -> list[Path]:
    """Folders of runs that can go on, newest first; of one result's name if given."""
    from lib_finetune.run import settings_of

    runs = host.paths.data / "runs"
    folders = sorted(runs.iterdir(), reverse=True) if runs.is_dir() else []
    found = [(folder, settings_of(folder)) for folder in folders if (folder / STATE).is_file()]
    return [folder for folder, settings in found if settings is not None and name in (None, settings.name)]


_RUNNERS: dict[str, Jobs] = {}


def runner(key: str, make_host: Callable[[], Host]) -> Jobs:
    """The one runner of this process for ``key``: packages survive the WebUI's Reload UI, so a job is found again after it."""
    if key not in _RUNNERS:
        _RUNNERS[key] = Jobs(make_host())
    return _RUNNERS[key]
