"""The record of a job: what is left of it on the disk, so that queue and results outlive the program."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lib_finetune.errors import SaveError
from lib_finetune.files import write_atomically
from lib_finetune.runs.folder import RunFolder

_log = logging.getLogger(__name__)


@dataclass
class Record:
    """
    Attributes:
        state: as `jobs` names it.
        group: jobs that are compared with one another have the same; "" for none.
        place: in the queue; the lowest is next.
        created, started, ended: seconds since 1970; 0 where it has not come to that.
        message: how it ended, in words.
        files: kind → path of the result.
        points: step → kind → path of the files saved on the way that are still there.
        steps: that are in the result.
        peak: bytes of memory at most, 0 where nobody looked.
        picked: the point that the person chose as the result, or None.
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
        """Take over step → kind → file of what was saved on the way."""
        self.points = {str(step): {kind: str(path) for kind, path in files.items()} for step, files in snapshots.items()}

    def save(self, folder: Path) -> None:
        """Write it into the job's folder; a disk that is full is logged and does not end anything."""
        try:
            write_atomically(RunFolder(folder).record, json.dumps(dataclasses.asdict(self), indent=1).encode("utf-8"))
        except SaveError as error:
            _log.warning("%s", error)


def read(folder: Path) -> Record | None:
    """The record of a job's folder, or None where there is none that can be read."""
    known = {entry.name for entry in dataclasses.fields(Record)}
    try:
        values = json.loads(RunFolder(folder).record.read_text(encoding="utf-8"))
        return Record(**{name: value for name, value in values.items() if name in known})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        _log.warning("%s cannot be read: %s", RunFolder(folder).record, error)
        return None
