"""One change to many captions, and the way back from the last one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from lib_finetune.data.caption_file import ASIDE
from lib_finetune.data.file_kinds import CAPTION_ENDINGS
from lib_finetune.errors import InputError, Problem
from lib_finetune.files import write_atomically

_LARGEST = 1 << 20
Contents = Mapping[Path, bytes]


class CaptionEdits:
    """Remembers what the last change did to the files, of captions and of those set aside. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before: Contents = {}
        self._after: Contents = {}

    def make(self, pictures: Iterable[Path], change: Callable[[], None]) -> None:
        """Do a change to the captions of images, and remember it; also where it ends half-way.

        Raises:
            FinetuneError: as ``change``.
        """
        folders = {picture.parent for picture in pictures}
        with self._lock:
            before = _contents(folders)
            try:
                change()
            finally:
                after = _contents(folders)
                changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
                if changed:
                    self._before = {path: before[path] for path in changed & before.keys()}
                    self._after = {path: after[path] for path in changed & after.keys()}

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to go back from."""
        return bool(self._before or self._after)

    def undo(self) -> int:
        """Bring the files back to what they were before the last change, once; returns how many. Files that were written since stay.

        Raises:
            InputError: there is no change to go back from.
            SaveError: a file cannot be written.
        """
        with self._lock:
            if not self.can_undo:
                raise InputError([Problem("captions", "There is no change to undo.")])
            before, after = self._before, self._after
            self._before, self._after = {}, {}
            untouched = [path for path in before.keys() | after.keys() if _read(path) == after.get(path)]
            for path in untouched:
                if path in before:
                    write_atomically(path, before[path])
                else:
                    path.unlink(missing_ok=True)
            return len(untouched)


def _contents(folders: Iterable[Path]) -> dict[Path, bytes]:
    contents = {}
    for folder in folders:
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.suffix.lower() in (*CAPTION_ENDINGS, ASIDE) and (content := _read(path)) is not None:
                contents[path] = content
    return contents


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.is_file() and path.stat().st_size <= _LARGEST else None
    except OSError:
        return None
