"""Captions of many images in one file: diffusers' ``metadata.jsonl``, and the ``meta_*.json`` of kohya's trainers."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lib_finetune.data.caption_syntax import tidied
from lib_finetune.data.file_kinds import EMPTIED, name_key
from lib_finetune.text_files import NotTextError, read

_MOST_BYTES = 100_000_000
"""Enough for the captions of any real dataset."""
_LINES = "metadata.jsonl"
_KOHYA = re.compile(r"meta([-_.].*|data)?\.json", re.IGNORECASE)
_LAST_WRITTEN = ("meta_lat.json", "meta_clean.json")
"""Of kohya's files, which are made of one another, the last ones."""
_NAMED = 5
_COLUMNS = ("text", "caption", "prompt")
_PICTURE_COLUMN = "file_name"
_OF_A_SYSTEM = re.compile(r"/|[a-z]:", re.IGNORECASE)


@dataclass(frozen=True)
class _Row:
    """A caption and the path of its image, as parts from the last to the first."""

    parts: tuple[str, ...]
    caption: str
    of_a_system: bool
    """Whether the path is absolute; the file system may be another computer's."""

    def fits(self, common: int) -> bool:
        """Whether the path means the image with which it has ``common`` last parts in common."""
        return common == len(self.parts) or (self.of_a_system and common > 1)


class _Table:
    """Captions of one file."""

    def __init__(self, path: Path, rows: Iterable[tuple[str, str]]) -> None:
        """
        Args:
            rows: (the image's name, caption).
        """
        self.path = path
        self._exact = path.name.lower() == _LINES  # its names are relative to its own folder
        self._rows: dict[str, list[_Row]] = defaultdict(list)
        for name, caption in rows:
            plain = name_key(name.replace("\\", "/"))
            parts = tuple(reversed([part for part in PurePosixPath(plain).parts if part != "/"]))
            if parts:
                self._rows[parts[0]].append(_Row(parts, tidied(caption), _OF_A_SYSTEM.match(plain) is not None))

    def caption(self, picture: Path, *, alone: bool) -> str | None:
        """The caption of an image, or None.

        Args:
            alone: whether no other image has this file name, so that the name in another folder can only mean this image.
        """
        beneath = tuple(reversed([name_key(part) for part in picture.relative_to(self.path.parent).parts]))
        above = tuple(reversed([name_key(part) for part in self.path.parent.parts]))
        for last in (beneath[0], name_key(picture.stem)):
            rows = self._rows.get(last, [])
            own = (last, *beneath[1:])
            if exact := [row.caption for row in rows if row.parts == own]:
                return exact[-1]
            counted = [(_common((*own, *above), row.parts), row) for row in rows]
            most = max((common for common, _ in counted), default=0)
            near = {row.caption for common, row in counted if common == most and (alone or (not self._exact and row.fits(common)))}
            if len(near) == 1:
                return near.pop()
        return None


class CaptionTables:
    """The tables of a folder. The table nearest to an image goes first, and ``metadata.jsonl`` goes before kohya's."""

    def __init__(self, files: Iterable[Path], pictures: Iterable[Path], text_of: Callable[[Path], str] | None = None) -> None:
        """
        Args:
            files: of the folder; files that are no tables are passed over.
            images: of the folder.
            text_of: reads a file that need not lie there.
        """
        self._text_of = text_of or (lambda path: read(path, _MOST_BYTES))
        self._names = Counter(name_key(picture.name) for picture in pictures)
        self.unread: list[tuple[Path, str]] = []
        self._readers: Counter[Path] = Counter()
        self._emptied: dict[Path, list[str]] = defaultdict(list)
        tables = (self._table(path) for path in sorted(files, key=_rank) if is_table(path.name))
        self._tables = [table for table in tables if table is not None]

    @property
    def files(self) -> frozenset[Path]:
        """The files that are tables, including those that cannot be read."""
        return frozenset([*(table.path for table in self._tables), *(path for path, _ in self.unread)])

    def read(self, picture: Path) -> tuple[str | None, Path | None]:
        """An image's caption and the file that it stands in, or nothing; nothing, too, where a person emptied that caption (`emptied`)."""
        caption, table = self.written(picture)
        if caption is None or table is None:
            return None, None
        if is_emptied(picture, caption):
            self._emptied[table].append(emptied(picture).name)
            return None, None
        self._readers[table] += 1
        return caption, table

    def written(self, picture: Path) -> tuple[str | None, Path | None]:
        """The same, emptied or not."""
        for table in self._tables:
            if table.path.parent in picture.parents:
                caption = table.caption(picture, alone=self._names[name_key(picture.name)] == 1)
                if caption is not None:
                    return caption, table.path
        return None, None

    def notes(self) -> list[str]:
        """How many images take their caption from each table, and which tables no image uses."""
        notes = []
        for table in self._tables:
            if files := self._emptied.get(table.path):
                names = f"{', '.join(files[:_NAMED])}{', …' if len(files) > _NAMED else ''}"
                notes.append(
                    f"Captions of {table.path.name} that were emptied in the tab: {len(files)}. To have one again, delete its file: {names}."
                )
            if count := self._readers[table.path]:
                notes.append(f"Captions read from {table.path.name}: {count}. A text file beside an image goes first.")
            elif not files:
                notes.append(f"No caption is read from {table.path.name}: it names none of the images, or other captions go first.")
        return notes

    def _table(self, path: Path) -> _Table | None:
        try:
            rows = _of_lines if path.name.lower() == _LINES else _of_kohya
            table = _Table(path, rows(self._text_of(path)))
        except OSError as error:
            self.unread.append((path, f"it cannot be read: {error.strerror or error}"))
        except (NotTextError, _NoTableError) as error:
            self.unread.append((path, str(error)))
        else:
            return table
        return None


def emptied(picture: Path) -> Path:
    """The file beside an image that says that a person emptied the caption that a table has for it; it holds that caption.

    The table stays as it is, and counts again for the image when it says something else of it.
    """
    return picture.with_name(picture.name + EMPTIED)


def is_emptied(picture: Path, caption: str) -> bool:
    """Whether a person emptied this caption of a table."""
    try:
        return tidied(read(emptied(picture))) == caption
    except (OSError, NotTextError):
        return False


class _NoTableError(ValueError):
    """A file is named like a table but holds none; the text says why."""


def is_table(name: str) -> bool:
    """Whether a file of this name is read as a table of captions."""
    return name.lower() == _LINES or _KOHYA.fullmatch(name) is not None


def _rank(path: Path) -> tuple[int, bool, int, str]:
    name = path.name.lower()
    latest = _LAST_WRITTEN.index(name) if name in _LAST_WRITTEN else len(_LAST_WRITTEN)
    return -len(path.parts), name != _LINES, latest, name


def _of_lines(content: str) -> Iterator[tuple[str, str]]:
    """Names and captions of ``metadata.jsonl``: an object a line; a list of captions is alternatives, as diffusers' trainers take it."""
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            row = _json(line, number)
            if not isinstance(row, dict) or not isinstance(row.get(_PICTURE_COLUMN), str):
                raise _NoTableError(f'line {number} names no image; each line is {{"file_name": "a.png", "text": "its caption"}}')
            if (caption := _of_row(row)) is not None:
                yield row[_PICTURE_COLUMN], caption


def _of_row(row: Mapping[str, Any]) -> str | None:
    texts = {name: value for name, value in row.items() if name != _PICTURE_COLUMN and (isinstance(value, str) or _is_texts(value))}
    name = next((name for name in _COLUMNS if name in texts), next(iter(texts), None) if len(texts) == 1 else None)
    if name is None:
        return None
    lines = [texts[name]] if isinstance(texts[name], str) else texts[name]
    return "\n".join(" ".join(line.split()) for line in lines)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


def _of_kohya(content: str) -> Iterator[tuple[str, str]]:
    """Names and captions of ``meta_*.json``: path or stem → caption and tags, which kohya's trainers put behind each line of the caption."""
    rows = _json(content, 0)
    known = isinstance(rows, dict) and all(isinstance(row, dict) for row in rows.values())
    if not known or not any(isinstance(row.get(name), str) for row in rows.values() for name in ("caption", "tags")):
        raise _NoTableError('it holds no captions as kohya\'s trainers write them: {"a.png": {"caption": "its caption", "tags": "tags"}}')
    for name, row in rows.items():
        caption, tags = (row.get(column) if isinstance(row.get(column), str) else "" for column in ("caption", "tags"))
        if caption and tags:
            behind = ", ".join(tidied(tags).split("\n"))
            caption = "\n".join(f"{line}, {behind}" for line in tidied(caption).split("\n"))
        if "caption" in row or "tags" in row:
            yield name, caption or tags


def _json(text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        where = line or getattr(error, "lineno", 1)
        raise _NoTableError(f"it is damaged: line {where} is no JSON") from error


def _common(own: tuple[str, ...], parts: tuple[str, ...]) -> int:
    """How many parts are equal, counted from the last."""
    count = 0
    for mine, other in zip(own, parts, strict=False):
        if mine != other:
            break
        count += 1
    return count
