"""The lock of a folder: only one program works in it. The same program may take it several times."""

from __future__ import annotations

import logging
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_finetune.errors import DependencyError, InUseError
from lib_finetune.installation.requirements import command_to_add

if TYPE_CHECKING:
    from typing_extensions import Self

_log = logging.getLogger(__name__)
FILE = ".lock"
_GUARD = threading.RLock()  # a garbage collection may release a lock while the same thread takes another one


class FolderLock:
    """Holds a folder from its creation until `release`, or until nothing refers to this object any more."""

    def __init__(self, folder: Path, taken: str) -> None:
        """
        Args:
            taken: the message when another program has the folder.

        Raises:
            DependencyError: filelock is missing.
            InUseError: another program has it.
        """
        self._end = weakref.finalize(self, _give_up, _take(folder, taken))

    def release(self) -> None:
        """Give the folder up; a second call does nothing."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class _Held:
    """A folder's lock in this program, and the number of its holders."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock
        self.holders = 0


_ALL: dict[Path, _Held] = {}


def _take(folder: Path, taken: str) -> _Held:
    try:
        from filelock import FileLock, Timeout
    except ImportError as error:
        raise DependencyError(
            f"filelock is missing ({error}), so nothing keeps two programs from the same work. Add it with: {command_to_add(['filelock'])}"
        ) from error
    path = folder.resolve() / FILE
    with _GUARD:
        held = _ALL.get(path) or _ALL.setdefault(path, _Held(_lock_of(FileLock, path)))
        held.holders += 1
        try:
            if not held.lock.is_locked:
                path.parent.mkdir(parents=True, exist_ok=True)
                held.lock.acquire(timeout=0)
        except Timeout as error:
            held.holders -= 1
            raise InUseError(folder, f"{taken} (If there is none, delete {path}.)") from error
        except (OSError, NotImplementedError) as error:  # a folder that is not writable is reported by the code that writes to it
            _log.warning("%s cannot be locked, so nothing keeps another program from working there: %s", folder, error)
        return held


def _lock_of(kind: Any, path: Path) -> Any:
    try:
        return kind(str(path), thread_local=False)  # another thread may release it
    except TypeError:  # filelock before 3.11, whose locks belong to no thread
        return kind(str(path))


def _give_up(held: _Held) -> None:
    with _GUARD:
        held.holders -= 1
        if not held.holders:
            held.lock.release()


def in_use(folder: Path) -> bool:
    """Whether anybody holds a folder, this program or another one."""
    with _GUARD:
        held = _ALL.get(folder.resolve() / FILE)
        if held is not None and held.holders:
            return True
        try:
            FolderLock(folder, "").release()
        except InUseError:
            return True
        return False


def run_lock(folder: Path) -> FolderLock:
    """Held while a run is worked on, here or on the command line.

    Raises:
        InUseError: another program works on it.
    """
    return FolderLock(folder, "another program works on this run. Wait for its end, or stop it there.")
