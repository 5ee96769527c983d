"""Whether the package in this process is the one on the disk: an update while the program runs leaves old modules beside new files.

Standard library only. ``scripts/finetune.py`` of a newer version meets this module of an older one in memory, so its names stay.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
OUTDATED = (
    "Finetune was updated while this program runs. Close the WebUI (or the program that trains without it) and start it again: "
    "Reload UI keeps the old version in memory. Until then no new training starts; a running one continues."
)


class LoadedFiles:
    """What a folder's Python files held when this object was made, which is taken for what is loaded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded = self._last = self._digest()
        self._stamps = self._stamped()

    def changed(self) -> bool:
        """Whether the files hold something else now; other times on the same text are no change."""
        stamps = self._stamped()
        if stamps != self._stamps:
            self._last, self._stamps = self._digest(), stamps
        return self._last != self._loaded

    def _files(self) -> list[Path]:
        return sorted(self._folder.rglob("*.py"))

    def _stamped(self) -> list[tuple[str, int, int]]:
        stamps = []
        for path in self._files():
            try:
                known = path.stat()
                stamps.append((str(path), known.st_size, known.st_mtime_ns))
            except OSError:  # in the middle of an update
                stamps.append((str(path), -1, -1))
        return stamps

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for path in self._files():
            try:
                digest.update(f"{path}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode("utf-8", "surrogateescape"))
            except OSError:
                digest.update(f"{path}\0\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


@functools.cache
def remember() -> LoadedFiles:
    """The package's own files: called first when the program starts."""
    return LoadedFiles(_PACKAGE)


def outdated() -> str:
    """What to do where the package was updated since `remember`, or ""."""
    return OUTDATED if remember().changed() else ""
