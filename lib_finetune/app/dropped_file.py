"""A file that was dropped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from lib_finetune.data.file_kinds import FileKind

Content = bytes | BinaryIO


@dataclass(frozen=True)
class DroppedFile:
    """A file as it came.

    Attributes:
        path: its name behind the folders that were dropped with it.
        content: all of it.
        kind: what it is, as in a folder that is scanned.
    """

    path: PurePosixPath
    content: Content
    kind: FileKind

    @property
    def name(self) -> str:
        """Its name alone."""
        return self.path.name

    def read(self) -> bytes:
        """All of it."""
        if isinstance(self.content, bytes):
            return self.content
        self.content.seek(0)
        return self.content.read()
