"""Tables of captions that were dropped: their captions stay with the images that came along, whatever these are called where they lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from lib_finetune.app.dropped_file import DroppedFile
from lib_finetune.data.caption_tables import CaptionTables, is_emptied, is_table
from lib_finetune.data.file_kinds import CAPTION_ENDINGS, FileKind, readable_endings
from lib_finetune.data.scan import CaptionFiles
from lib_finetune.files import write_atomically
from lib_finetune.text_files import decoded

_DROP = Path("/drop")
"""Stands for where the files came from."""


def captions_of(files: Sequence[DroppedFile]) -> dict[int, str]:
    """What tables of a drop say of its images that have no caption file there: place of the image among the files → caption.

    Where two tables or two images came under one name, it is not known what belongs together; the first image has the caption then,
    and of two tables none is followed.
    """
    tables = {_DROP / file.path: file for file in files if file.kind is FileKind.OTHER_CAPTION and is_table(file.path.name)}
    names = Counter(file.path for file in files)
    if not tables or any(names[file.path] > 1 for file in tables.values()):
        return {}
    pictures = {_DROP / file.path: place for place, file in reversed(list(enumerate(files))) if file.kind is FileKind.PICTURE}
    own = CaptionFiles((_DROP / file.path for file in files if file.kind is FileKind.CAPTION), pictures)
    read = CaptionTables(tables, pictures, lambda path: decoded(tables[path].read()))
    written = {place: read.written(picture)[0] for picture, place in pictures.items() if not own.of(picture)}
    return {place: caption for place, caption in written.items() if caption is not None}


def store(tables: Mapping[Path, bytes], captions: Mapping[Path, str], folder: Path) -> None:
    """Put tables into a folder in which the images of their drop lie already.

    A table that would give an image of an earlier drop another caption is not kept as one. What is not read from a table goes into a text file
    beside its image, unless the image has one, or its caption was emptied.

    Args:
        tables: by the paths that they get.
        captions: by the paths that the images of the drop got.

    Raises:
        SaveError: the folder cannot be written.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())
    pictures = [path for path in files if path.suffix.lower() in readable_endings()]
    own = CaptionFiles((path for path in files if path.suffix.lower() in CAPTION_ENDINGS), pictures)
    now = CaptionTables(files, pictures)
    after = CaptionTables({*files, *tables}, pictures, lambda path: decoded(tables[path] if path in tables else path.read_bytes()))
    others = [path for path in pictures if path not in captions and not own.of(path)]
    if any(now.written(path)[0] != after.written(path)[0] for path in others):
        after = now
    else:
        for path, content in tables.items():
            write_atomically(path, content)
    for path, caption in captions.items():
        if not own.of(path) and after.written(path)[0] != caption and not is_emptied(path, caption):
            write_atomically(path.with_name(path.name + CAPTION_ENDINGS[0]), f"{caption}\n".encode())
