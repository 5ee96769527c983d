"""The jobs that the last program left in a host's folder."""

from __future__ import annotations

import logging
import math
from pathlib import Path

from lib_finetune.config import codec
from lib_finetune.config.fields import value_at
from lib_finetune.config.settings import METHODS, Settings
from lib_finetune.errors import InputError, Problem
from lib_finetune.jobs import record as records
from lib_finetune.jobs.job import Job, damaged, revived
from lib_finetune.runs.folder import RunFolder

_log = logging.getLogger(__name__)


def restored(data: Path) -> list[Job]:
    """Jobs that the last program left below a host's data: results, those that waited, those that it was ended in the middle of, and damaged ones."""
    runs = data / "runs"
    folders = sorted(runs.iterdir()) if runs.is_dir() else []
    return [job for job in (_restored_job(folder) for folder in folders) if job is not None]


def _restored_job(folder: Path) -> Job | None:
    """None for a folder without a record: a run of the command line, or nothing of ours."""
    try:
        record = records.read(folder)
        if record is None:
            return None
        return revived(_sound(codec.load(RunFolder(folder).settings_file)), folder, record)
    except InputError as error:
        _log.warning("The job in %s is damaged: %s", folder, error)
        return damaged(folder, f"{error} The folder is {folder}.")


def _sound(settings: Settings) -> Settings:
    """The same settings.

    Raises:
        InputError: of an unknown method, or with a value that is no number.
    """
    if settings.method not in METHODS:
        raise InputError([Problem("method", f"{settings.method!r} is unknown.")])
    for path in codec.all_leaves():
        value = value_at(settings, path)
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError([Problem(path, f"{value} is no number.")])
    return settings
