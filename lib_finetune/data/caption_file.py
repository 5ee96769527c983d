"""The caption file beside a picture: written and taken away."""

from __future__ import annotations

import os
from pathlib import Path

from lib_finetune.data.caption_syntax import tidied
from lib_finetune.data.scan import CAPTION_KINDS, CaptionFiles, readable_kinds
from lib_finetune.errors import InputError, Problem, SaveError
from lib_finetune.files import write_atomically

_FIELD = "caption"
ASIDE = ".bak"
"""Ending of a caption file that was taken away; a scan passes it over."""


def save_caption(picture_path: Path, text: str, images_folder: Path) -> Path | None:
    """Write a picture's caption, each of its alternatives in a line, into the file that a scan reads first, else into a new ``<stem>.txt``.

    An empty text takes the caption away, so that the template stands in for it: the files that a scan would read are
    renamed to ``<name>.bak``, and nothing that was typed is lost. (An empty caption would be one too: it trains without words.)

    Args:
        images_folder: the picture must lie in it or below.

    Returns:
        The caption file, or None when there is none now.

    Raises:
        InputError: the picture lies elsewhere, or is none.
        SaveError: the file could not be written or renamed.
    """
    picture = _inside(picture_path, images_folder)
    files = CaptionFiles(path for path in picture.parent.iterdir() if path.suffix.lower() in CAPTION_KINDS).of(picture)
    words = tidied(text)
    if not words:
        for file in files:
            _take_away(file)
        return None
    target = files[0] if files else picture.with_suffix(CAPTION_KINDS[0])
    write_atomically(target, f"{words}\n".encode())
    return target


def _inside(picture: Path, folder: Path) -> Path:
    """The picture's path, ".." resolved; links are not followed, for a folder of pictures may hold links to others."""
    base = Path(os.path.abspath(folder.expanduser()))  # noqa: PTH100  resolve() would follow links
    path = Path(os.path.abspath(base / picture.expanduser()))  # noqa: PTH100
    if base not in path.parents:
        raise InputError([Problem(_FIELD, f"{picture} does not lie in the folder of the pictures, {base}.")])
    if path.suffix.lower() not in readable_kinds() or not path.is_file():
        raise InputError([Problem(_FIELD, f"{path} is no picture of this folder any more. Look at the folder again.")])
    return path


def _take_away(file: Path) -> None:
    try:
        os.replace(file, file.with_name(file.name + ASIDE))
    except OSError as error:
        raise SaveError(f"{file} could not be renamed: {error.strerror or error}. Check the folder's permissions.") from error
