"""A disk that is full: the writer of our files raises ENOSPC after so many bytes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lib_finetune import files

if TYPE_CHECKING:
    from typing_extensions import Self


class FullDisk:
    """While ``full``, files whose temporary name ``matches`` take ``room`` bytes and no more.

    Attributes:
        refused: names of the temporary files that were refused, in order.
        sizes: temporary file → bytes that it took.
    """

    def __init__(self, patch: pytest.MonkeyPatch, matches: Callable[[Path], bool] = lambda _: True, room: int = 0) -> None:
        self.full, self.room, self.refused = True, room, []
        self.sizes: dict[Path, int] = {}
        self._matches, self._names = matches, {}
        created, opened = files._created, os.fdopen

        def create(path: Path) -> int:
            handle = created(path)
            self._names[handle] = str(path)
            return handle

        def fdopen(handle: int, *args: Any, **named: Any) -> Any:
            file, name = opened(handle, *args, **named), self._names.pop(handle, None)
            return _Limited(file, self, Path(name)) if name and self.full and self._matches(Path(name)) else file

        patch.setattr(files, "_created", create)
        patch.setattr(os, "fdopen", fdopen)


class _Limited:
    def __init__(self, file: Any, disk: FullDisk, name: Path) -> None:
        self._file, self._disk, self._name, self._left = file, disk, name, disk.room

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        if len(view) > self._left and self._disk.full:
            self._file.write(view[: self._left])
            self._disk.refused.append(self._name)
            raise OSError(errno.ENOSPC, "No space left on device")
        self._left -= len(view)
        return int(self._file.write(view))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._disk.sizes[self._name] = self._disk.room - self._left
        self._file.close()
