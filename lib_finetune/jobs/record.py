"""The record of a job on the disk, so that queue and results outlive the program."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib_finetune.errors import InputError, Problem, SaveError
from lib_finetune.files import logged_to, write_atomically
from lib_finetune.jobs import states
from lib_finetune.runs.folder import RunFolder
from lib_finetune.runs.write_journal import WriteJournal

_log = logging.getLogger(__name__)


@dataclass
class Record:
    """
    Attributes:
        state: see `jobs.states`.
        group: jobs that are compared with one another have the same; "" for none.
        place: in the queue; the lowest is next.
        created, started, ended: seconds since 1970; 0 if that has not happened yet.
        message: how it ended, in words.
        files: kind → path of the result.
        points: step → kind → path of each snapshot file that still exists.
        steps: steps in the result.
        peak: the most memory in bytes; 0 if it was not measured.
        picked: step of the snapshot that the person chose as the result, or None.
    """

    state: str
    group: str = ""
    place: float = 0.0
    created: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    message: str = ""
    files: dict[str, str] = field(default_factory=dict)
    points: dict[str, dict[str, str]] = field(default_factory=dict)
    steps: int = 0
    peak: int = 0
    picked: int | None = None

    def keep_points(self, snapshots: Mapping[int, Mapping[str, Path]]) -> None:
        """Take over step → kind → file of the snapshots."""
        self.points = {str(step): {kind: str(path) for kind, path in files.items()} for step, files in snapshots.items()}

    def save(self, folder: Path) -> None:
        """Write the record into the job's folder; a full disk is logged and ends nothing."""
        try:
            with logged_to(WriteJournal(RunFolder(folder), ())):
                write_atomically(RunFolder(folder).record, json.dumps(dataclasses.asdict(self), indent=1).encode("utf-8"))
        except SaveError as error:
            _log.warning("%s", error)


def read(folder: Path) -> Record | None:
    """The record of a job's folder, or None where there is none.

    Raises:
        InputError: it exists and cannot be read.
    """
    path = RunFolder(folder).record
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return _checked(values)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return None
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError([Problem("", f"{path.name} cannot be read ({error}).")]) from error


def _checked(values: Any) -> Record:
    """A record whose values all have the right type.

    Raises:
        ValueError, TypeError, AttributeError: one is not.
    """
    known = {entry.name for entry in dataclasses.fields(Record)}
    record = Record(**{name: value for name, value in values.items() if name in known})
    for name in ("place", "created", "started", "ended"):
        if isinstance(getattr(record, name), bool) or not math.isfinite(getattr(record, name)):
            raise ValueError(f"{name} is no number")
    for name in ("state", "group", "message"):
        if not isinstance(getattr(record, name), str):
            raise TypeError(f"{name} is no text")
    if record.state not in states.ALL:
        raise ValueError(f"the state {record.state!r} is unknown")
    _check_files(record.files)
    for step, files in record.points.items():
        int(step)
        _check_files(files)
    if type(record.steps) is not int or type(record.peak) is not int or type(record.picked) not in (int, type(None)):
        raise TypeError("steps, peak or picked is no number")
    return record


def _check_files(files: Mapping[str, str]) -> None:
    if not all(isinstance(kind, str) and isinstance(path, str) for kind, path in files.items()):
        raise TypeError("a file has no path")
