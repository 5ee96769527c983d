"""The jobs that the last program left in a host's folder."""

from __future__ import annotations

import logging
from pathlib import Path

from lib_finetune.config import codec, validation
from lib_finetune.errors import InputError, InUseError
from lib_finetune.jobs import record as records
from lib_finetune.jobs.folder_lock import run_lock
from lib_finetune.jobs.job import Job, damaged, revived
from lib_finetune.runs import repair
from lib_finetune.runs.folder import RunFolder

_log = logging.getLogger(__name__)


def restored(data: Path) -> list[Job]:
    """The jobs below a host's data: ended, waiting, interrupted by the end of the program, and damaged ones."""
    runs = data / "runs"
    folders = sorted(runs.iterdir()) if runs.is_dir() else []
    return [job for job in (_restored_job(folder) for folder in folders) if job is not None]


def _restored_job(folder: Path) -> Job | None:
    """The job of a folder; None without a record: a run of the command line, or nothing of ours."""
    try:
        record = records.read(folder)
        if record is None:
            return None
        _mend(RunFolder(folder))
        return revived(validation.readable(codec.load(RunFolder(folder).settings_file)), folder, record)
    except InputError as error:
        _log.warning("The job in %s is damaged: %s", folder, error)
        return damaged(folder, f"{error} The folder is {folder}.")


def _mend(folder: RunFolder) -> None:
    if not folder.resumes() or folder.settings() is not None:
        return
    try:
        with run_lock(folder.path):
            for line in repair.mend(folder):
                _log.warning("%s: %s", folder.path, line)
    except InUseError:
        return
