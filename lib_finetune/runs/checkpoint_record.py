"""The record of the file on which a run began, so that a run never resumes on a checkpoint that was replaced."""

from __future__ import annotations

import contextvars
import dataclasses
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.errors import InputError, Problem, SaveError
from lib_finetune.files import write_atomically
from lib_finetune.model import checkpoint_reader
from lib_finetune.ports.checkpoint import CheckpointInfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from lib_finetune.runs.folder import RunFolder

_log = logging.getLogger(__name__)


def begin(info: CheckpointInfo, folder: RunFolder) -> CheckpointInfo:
    """Record the checkpoint of a new run; returns it with its file's size and time.

    If the host has no hash of the file, a thread computes it during the first steps: gigabytes take seconds.

    Raises:
        SaveError: the folder cannot be written.
    """
    info = _with_mark(info)
    _write(info, folder)
    if info.sha256 is None and info.size is not None:
        threading.Thread(target=contextvars.copy_context().run, args=(_hash, info, folder), name="finetune-hash", daemon=True).start()
    return info


def stored(folder: RunFolder) -> CheckpointInfo | None:
    """The checkpoint that the run on this folder began on, or None where it is not recorded.

    Raises:
        InputError: the record is damaged.
    """
    try:
        return CheckpointInfo.from_json(folder.checkpoint_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        message = f"{folder.checkpoint_file} no longer records which checkpoint this run began on ({error}). Start a new run."
        raise InputError([Problem("checkpoint", message)]) from error


def check_unchanged(began: CheckpointInfo, folder: RunFolder, say: Callable[[str], None] = lambda _: None) -> None:
    """Check that the file is still the one on which the run began: by size and time, and by content if these differ.

    Args:
        say: takes a sentence if the check is not possible.

    Raises:
        InputError: another file lies there now.
    """
    if began.path is None or not began.path.is_file():
        return
    if began.size is None:
        say(f"Whether {began.path.name} is still the file that this run began on cannot be told: the run is of an earlier version.")
        return
    now = _with_mark(began)
    if (now.size, now.modified_ns) == (began.size, began.modified_ns):
        return
    if now.size == began.size and began.sha256 is None:
        say(f"{began.path.name} was written anew since this run began; its size is the same, its content cannot be compared.")
        return
    digits = checkpoint_reader.sha256(began.path) if now.size == began.size or began.sha256 else None
    if digits is None or digits != began.sha256:
        raise _replaced(began, now, digits)
    try:
        _write(now, folder)
    except SaveError as error:
        _log.warning("The new time of %s was not recorded: %s", began.path, error)


def _replaced(began: CheckpointInfo, now: CheckpointInfo, digits: str | None) -> InputError:
    then = f"{(began.sha256 or '')[:10]} of {began.size} bytes".strip()
    present = f"{(digits or '')[:10]} of {now.size} bytes".strip()
    message = (
        f"{began.path} is another file than the one that this run began on: it was {then}, it is {present}. Put the old file back "
        "to continue, or start a new run on this one."
    )
    return InputError([Problem("checkpoint", message)])


def _with_mark(info: CheckpointInfo) -> CheckpointInfo:
    """The checkpoint with the present size and time of its file."""
    try:
        status = info.path.stat() if info.path else None
    except OSError:
        status = None
    return dataclasses.replace(info, size=status.st_size, modified_ns=status.st_mtime_ns) if status else info


def _hash(info: CheckpointInfo, folder: RunFolder) -> None:
    path = info.path or Path()
    try:
        digits = checkpoint_reader.sha256(path)
        now = _with_mark(info)
        if (now.size, now.modified_ns) == (info.size, info.modified_ns) and folder.path.is_dir():
            _write(dataclasses.replace(info, sha256=digits), folder)
    except (OSError, SaveError) as error:
        _log.warning("%s could not be hashed: %s", path, error)


def _write(info: CheckpointInfo, folder: RunFolder) -> None:
    write_atomically(folder.checkpoint_file, info.to_json().encode("utf-8"))
