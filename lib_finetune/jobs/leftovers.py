"""Leftovers of killed runs among the results: half-written files, and files lent to previews."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.errors import DependencyError, InUseError
from lib_finetune.jobs.folder_lock import run_lock
from lib_finetune.runs import snapshots
from lib_finetune.runs.folder import RunFolder
from lib_finetune.runs.write_journal import WriteJournal

if TYPE_CHECKING:
    from lib_finetune.ports.files import Paths

_log = logging.getLogger(__name__)


def clear_all(paths: Paths) -> None:
    """Clear the leftovers of every run that nobody works on."""
    for folder in _journaled(paths.data):
        try:
            with run_lock(folder.path):
                clear(folder, paths)
        except (InUseError, DependencyError):
            continue


def clear(folder: RunFolder, paths: Paths) -> None:
    """Clear the leftovers of one run. Call under its lock."""
    journal = WriteJournal(folder, paths.all)
    for path in journal.clear():
        _log.info("Half a file of %s was removed: %s", folder.path.name, path)
    snapshots.withdraw(folder, journal, lent=True)
    try:
        folder.preview_checkpoint.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%s was not removed: %s", folder.preview_checkpoint, error)


def size_outside(paths: Paths) -> int:
    """The size, in bytes, of half-written files outside Finetune's own folder."""
    total = 0
    for folder in _journaled(paths.data):
        for path in WriteJournal(folder, paths.all).leftovers():
            if not path.is_relative_to(paths.data):
                total += _size(path)
    return total


def _journaled(data: Path) -> Iterator[RunFolder]:
    runs = data / "runs"
    for path in sorted(runs.iterdir()) if runs.is_dir() else ():
        if not path.is_symlink() and (RunFolder(path).writes.is_file() or RunFolder(path).preview_checkpoint.is_file()):
            yield RunFolder(path)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:  # gone meanwhile
        return 0
