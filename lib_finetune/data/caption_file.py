"""The caption file beside an image: written and taken away."""

from __future__ import annotations

import os
from pathlib import Path

from lib_finetune.data.caption_syntax import tidied
from lib_finetune.data.caption_tables import emptied
from lib_finetune.data.file_kinds import CAPTION_ENDINGS, name_key, readable_endings
from lib_finetune.data.scan import CaptionFiles, tables_of
from lib_finetune.errors import InputError, Problem, SaveError
from lib_finetune.files import write_atomically
from lib_finetune.locked_files import put_in_place

_FIELD = "caption"
ASIDE = ".bak"
"""Ending of a caption file that was taken away; a scan passes it over."""


def save_caption(picture_path: Path, text: str, images_folder: Path, apart: Path | None = None) -> Path | None:
    """Write an image's caption, each of its alternatives in a line, into the file that a scan reads first where it is this image's alone,
    else into a new one.

    The new one is ``<stem>.txt``; beside another image of the same stem it is ``<name>.txt``, so that the other's caption stays as it is.

    An empty text takes the caption away, so that the template stands in for it: the files that a scan would read are
    renamed to ``<name>.bak``, and nothing that was typed is lost. (An empty caption would be one too: it trains without words.)
    What a table of captions says of the image is passed over from then on; see `caption_tables.emptied`.

    Args:
        images_folder: the image must lie in it or below.
        apart: as in `scan`.

    Returns:
        The caption file, or None when there is none now.

    Raises:
        InputError: the image lies elsewhere, or is none.
        SaveError: the file could not be written or renamed.
    """
    picture = _inside(picture_path, images_folder)
    beside = _Neighbours(picture)
    words = tidied(text)
    if not words:
        for file in beside.captions.of(picture):
            _leave_to_others(file, beside.readers(file))
            _take_away(file)
        _pass_tables_over(picture, images_folder, apart)
        return None
    target = beside.own_file()
    write_atomically(target, f"{words}\n".encode())
    return target


def _pass_tables_over(picture: Path, images_folder: Path, apart: Path | None) -> None:
    caption, _ = tables_of(images_folder, apart).written(picture)
    if caption is not None:
        write_atomically(emptied(picture), f"{caption}\n".encode())


class _Neighbours:
    """The captions and the other images beside an image."""

    def __init__(self, picture: Path) -> None:
        files = sorted(path for path in picture.parent.iterdir() if path.is_file() and not path.name.startswith("."))
        readable = readable_endings()
        pictures = [path for path in files if path.suffix.lower() in readable]
        self._picture = picture
        self._others = [path for path in pictures if path.name != picture.name]
        self.captions = CaptionFiles((path for path in files if path.suffix.lower() in CAPTION_ENDINGS), pictures)

    def readers(self, file: Path) -> list[Path]:
        """The other images that have this file as their caption."""
        return [other for other in self._others if self.captions.of(other)[:1] == [file]]

    def own_file(self) -> Path:
        """Where the image's caption is written, so that it is no other image's."""
        known = self.captions.of(self._picture)
        whole = self._picture.with_name(self._picture.name + CAPTION_ENDINGS[0])
        if known and not self.readers(known[0]):
            return known[0]
        stem = name_key(self._picture.stem)
        twins = any(stem in (name_key(other.stem), name_key(other.name)) for other in self._others)
        plain = self._picture.with_suffix(CAPTION_ENDINGS[0])
        taken = plain.exists() and not plain.is_file()  # by a folder, a pipe, a device
        return whole if known or twins or taken else plain


def _leave_to_others(file: Path, readers: list[Path]) -> None:
    """Give the other images that a caption file is read for a file of their own with the same text."""
    for other in readers:
        write_atomically(other.with_name(other.name + CAPTION_ENDINGS[0]), file.read_bytes())


def _inside(picture: Path, folder: Path) -> Path:
    """The image's path, ".." resolved; links are not followed, for a folder of images may hold links to others."""
    base = _absolute(folder)
    path = _absolute(base / picture)
    if base not in path.parents or not path.is_file():
        path = _absolute(picture) if base in _absolute(picture).parents else path
    if base not in path.parents:
        raise InputError([Problem(_FIELD, f"{picture} is not in the folder of the images, {base}.")])
    if path.suffix.lower() not in readable_endings() or not path.is_file():
        raise InputError([Problem(_FIELD, f"{path} is no image of this folder any more. Look at the folder again.")])
    return path


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100  resolve() would follow links


def _take_away(file: Path) -> None:
    try:
        put_in_place(file, file.with_name(file.name + ASIDE))
    except OSError as error:
        raise SaveError(f"{file} could not be renamed: {error.strerror or error}. Check the folder's permissions.") from error
