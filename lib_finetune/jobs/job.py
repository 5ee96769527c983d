"""A job: a run that a person asked for, also after a restart of the program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lib_finetune.assembly.artifact_kinds import artifact_kinds_of
from lib_finetune.config.settings import Settings
from lib_finetune.errors import InputError
from lib_finetune.jobs.control import JobControl
from lib_finetune.jobs.log_files import LogFiles
from lib_finetune.jobs.progress import JobProgress
from lib_finetune.jobs.record import Record
from lib_finetune.jobs.states import DAMAGED, ENDED, INTERRUPTED, QUEUED
from lib_finetune.runs.folder import RunFolder

_WAITS = {
    "save": "This training waits for its turn: Save now is answered once it runs.",
    "preview": "This training waits for its turn: Preview now is answered once it runs.",
}


class Job:
    """A run in the queue, at work or ended.

    Attributes:
        settings: of the run.
        folder: of the run; its name is the job's id.
        record: what the disk keeps of it.
        control: what the person wants of it.
        progress: what the run reports.
        message: how it ended, in words.
        file: the result, or None.
        old: whether it is of an earlier session.
    """

    def __init__(self, settings: Settings, folder: Path, record: Record | None = None, *, old: bool = False) -> None:
        self.settings = settings
        self.folder = folder
        self.record = record or Record(QUEUED)
        self.control = JobControl()
        self.progress = JobProgress(LogFiles(folder), self._record_snapshots)
        self.message = ""
        self.file: Path | None = None
        self.old = old

    @property
    def state(self) -> str:
        """See `jobs.states`."""
        return self.progress.state

    @state.setter
    def state(self, state: str) -> None:
        self.progress.state = state

    @property
    def ended(self) -> bool:
        """Whether it has ended and does not continue by itself."""
        return self.state in ENDED

    @property
    def snapshots(self) -> dict[int, dict[str, Path]]:
        """Step → kind → file of each snapshot."""
        kinds = [kind.kind for kind in artifact_kinds_of(self.settings)]
        return {step: dict(zip(kinds, files, strict=True)) for step, files in self.progress.snapshots.items()}

    def press(self, button: str) -> None:
        """Save now ("save") or Preview now ("preview"); while the job waits for its turn, it says when it will answer."""
        if self.state == QUEUED:
            self.progress.say(_WAITS[button])
        {"save": self.control.save_now, "preview": self.control.preview_now}[button]()

    def keep_result(self, files: Mapping[str, Path], steps: int) -> None:
        """Take over kind → file of the result, and the steps in it."""
        self.file = next(iter(files.values()), None)
        self.record.files, self.record.steps = {kind: str(path) for kind, path in files.items()}, steps

    def keep_snapshots(self, snapshots: dict[int, dict[str, Path]]) -> None:
        """Take over which snapshot files exist now."""
        self.progress.snapshots = {step: list(files.values()) for step, files in snapshots.items()}

    def _record_snapshots(self) -> None:
        """Write the snapshots to the record, so that they are known after a kill."""
        self.record.keep_points(self.snapshots)
        if RunFolder(self.folder).record.is_file():
            self.record.save(self.folder)


def revived(settings: Settings, folder: Path, record: Record) -> Job:
    """A job of an earlier session, read from its folder.

    Raises:
        InputError: the record does not go with the settings.
    """
    kinds = {kind.kind for kind in artifact_kinds_of(settings)}
    if any(set(files) != kinds for files in record.points.values()) or not set(record.files) <= kinds:
        raise InputError(f"{RunFolder(folder).record.name} names other kinds of files than {', '.join(sorted(kinds))}.")
    job = Job(settings, folder, record, old=True)
    job.state, job.message = record.state, record.message
    if job.state not in (QUEUED, *ENDED):
        resumes = RunFolder(folder).resumes()
        ending = "It can be resumed from its last saved state." if resumes else "It had saved no state yet."
        job.message, job.state = f"The WebUI was ended while this ran. {ending}", INTERRUPTED
    job.file = next((Path(path) for path in record.files.values()), None)
    job.progress.snapshots = {int(step): [Path(path) for path in files.values()] for step, files in record.points.items()}
    job.progress.recall(folder)
    return job


def damaged(folder: Path, message: str) -> Job:
    """A job whose record or settings cannot be read: the tab shows it with its folder, and a person can only delete it."""
    job = Job(replace(Settings(), name=folder.name), folder, Record(DAMAGED), old=True)
    job.state, job.message = DAMAGED, message
    return job
