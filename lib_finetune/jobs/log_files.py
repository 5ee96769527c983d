"""The log and the losses of a job on disk, where a restart finds them."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lib_finetune.runs.folder import RunFolder

_log = logging.getLogger(__name__)


class LogFiles:
    """Appends to the files of a run's folder; a full disk is logged and does not end the training, which does not need them."""

    def __init__(self, folder: Path) -> None:
        self._folder = RunFolder(folder)

    def add_line(self, time_of_day: str, message: str) -> None:
        """Append a line to the log."""
        _append(self._folder.log, [[time_of_day, message]])

    def add_losses(self, first_step: int, losses: Sequence[float]) -> None:
        """Append the losses of consecutive steps."""
        _append(self._folder.losses, [[first_step + place, f"{loss:.6g}"] for place, loss in enumerate(losses)])

    def add_validation(self, step: int, loss: float) -> None:
        """Append a loss on the validation images."""
        _append(self._folder.validation, [[step, f"{loss:.6g}"]])

    def lines(self) -> list[str]:
        """All lines, with their times."""
        return [" ".join(row) for row in _pairs(self._folder.log)]

    def losses(self) -> list[tuple[int, float]]:
        """(step, loss) of all steps."""
        return _points(self._folder.losses)

    def validation(self) -> list[tuple[int, float]]:
        """(step, loss) on the validation images, in the order in which they were measured."""
        return _points(self._folder.validation)


def _append(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    try:
        # The name of a file in a message need not be UTF-8.
        with path.open("a", newline="", encoding="utf-8", errors="backslashreplace") as file:
            csv.writer(file).writerows(rows)
    except OSError as error:
        _log.warning("%s cannot be written: %s", path, error)


def _pairs(path: Path) -> list[list[str]]:
    """Rows of two cells, without one that a kill has cut off."""
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            return [row for row in csv.reader(file) if len(row) == 2]
    except (OSError, csv.Error):
        return []


def _points(path: Path) -> list[tuple[int, float]]:
    return [(int(step), float(loss)) for step, loss in _pairs(path) if step.isdecimal() and _is_number(loss)]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
