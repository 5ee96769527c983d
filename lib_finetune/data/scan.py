"""A folder of pictures: what can be trained on, with captions and repeats, and in plain words what cannot."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from lib_finetune.data import caption_syntax, folder_names
from lib_finetune.data.caption_tables import CaptionTables
from lib_finetune.data.images import UnreadablePictureError, decode, examine, focal_position
from lib_finetune.errors import InputError, Problem
from lib_finetune.text_files import NotTextError
from lib_finetune.text_files import read as read_text

CAPTION_KINDS = (".txt", ".caption")  # the first one found wins
_KINDS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
_AVIF = ".avif"
_OTHER_KINDS = frozenset({".heic", ".heif", ".tif", ".tiff", ".gif", ".jxl", ".jp2", ".psd", ".svg", ".dng", ".cr2", ".nef", ".arw", _AVIF})
# Up to three digits: "2024_holiday" is a year and not 2024 repeats.
_KOHYA_FOLDER = re.compile(r"(\d{1,3})_(.*\S.*)", re.DOTALL)
_WORKERS = min(8, os.cpu_count() or 1)  # decoding leaves Python's lock; more threads only hold more pictures in memory
_LISTED = 100


@dataclass(frozen=True)
class Picture:
    """A picture that can be trained on.

    Attributes:
        path: the file.
        width_px, height_px: after EXIF rotation.
        caption: what is written of it in a file, `caption_syntax.tidied`; None when nothing is.
        repeats: how often it comes in an epoch (kohya's ``10_name class`` folders; else 1).
        content: sha256 of the file's bytes, lower-case hex; key of all that is cached of it.
        folder_words: "name class" of a kohya folder, or None.
        focus: the point that a focal crop keeps, as shares 0..1 of width and height.
        name: path relative to the scanned folder, with "/".
        caption_file: the file that the caption came from, or None.
    """

    path: Path
    width_px: int
    height_px: int
    caption: str | None
    repeats: int
    content: str
    folder_words: str | None = None
    focus: tuple[float, float] = (0.5, 0.5)
    name: str = ""
    caption_file: Path | None = None

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.path.name)


@dataclass(frozen=True)
class Report:
    """What a scan found; all paths begin with ``folder``.

    Attributes:
        pictures: can be trained on, sorted by name.
        broken: pictures and folders that cannot be read, with the reason.
        orphans: caption files that belong to no picture.
        doubles: `.caption` files that are not used because a `.txt` stands beside them.
        unread_captions: caption files that are not text, with the reason; their pictures count as having none.
        other_kinds: pictures of kinds that are not read.
        never: pictures in kohya folders with 0 repeats.
        remarks: names of folders that give no repeats, and which captions stand in a file of many, in sentences.
    """

    folder: Path
    pictures: tuple[Picture, ...]
    broken: tuple[tuple[Path, str], ...] = ()
    orphans: tuple[Path, ...] = ()
    doubles: tuple[Path, ...] = ()
    unread_captions: tuple[tuple[Path, str], ...] = ()
    other_kinds: tuple[Path, ...] = ()
    never: tuple[Path, ...] = ()
    remarks: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The report in plain words: one line on what was found, then one for each thing to look at."""
        with_text = sum(picture.caption is not None for picture in self.pictures)
        lines = [f"{_count(len(self.pictures), 'picture')} in {self.folder}, {with_text} of them with a caption file."]
        if empty := sum(picture.caption == "" for picture in self.pictures):
            lines.append(f"Empty caption files: {empty}.")
        lines += self.remarks
        lines += caption_syntax.sentences(picture.caption for picture in self.pictures)
        lines += self._repeats()
        lines += self._each("Skipped", self.broken)
        lines += self._each("Skipped", ((path, f"{path.suffix} is not a kind that is read") for path in self.other_kinds))
        lines += self._each("Skipped", ((path, "its folder's name asks for 0 repeats") for path in self.never))
        lines += self._each("Caption not used", ((path, "there is no picture of this name beside it") for path in self.orphans))
        lines += self._each("Caption not used", ((path, "the .txt file beside it goes first") for path in self.doubles))
        lines += self._each("Caption not used", self.unread_captions)
        return lines

    def _repeats(self) -> list[str]:
        if all(picture.repeats == 1 for picture in self.pictures):
            return []
        views = sum(picture.repeats for picture in self.pictures)
        return [f"Repeats from folder names such as 10_name: an epoch shows {_count(views, 'picture')}."]

    def _each(self, what: str, entries: Iterable[tuple[Path, str]]) -> list[str]:
        lines = [f"{what}: {_relative(path, self.folder)} ({reason})." for path, reason in entries]
        more = len(lines) - _LISTED
        return lines if more <= 0 else [*lines[:_LISTED], f"{what}: {more} more of this sort."]


@dataclass(frozen=True)
class Examined:
    """What decoding a picture tells of it: (width, height) in px, sha256 of the bytes, and where a focal crop looks."""

    size: tuple[int, int]
    content: str
    focus: tuple[float, float]


def examined(path: Path, face: Callable[[Image.Image], tuple[float, float] | None] | None = None) -> Examined | str:
    """What decoding the picture tells of it, or the reason why it is broken.

    Args:
        face: finds a face to look at instead of what stands out.

    Raises:
        InputError: as ``face``.
    """
    try:
        data = path.read_bytes()
        size, thumbnail = examine(data)
        face_position = face(decode(data)) if face else None
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    except UnreadablePictureError as error:
        return str(error)
    return Examined(size, hashlib.sha256(data).hexdigest(), face_position or focal_position(thumbnail))


def scan(
    folder: Path,
    *,
    field: str = "data.images",
    on_picture: Callable[[int, int], None] | None = None,
    look: Callable[[Path], Examined | str] = examined,
) -> Report:
    """Find the pictures in a folder and its subfolders, decoding each once to know that it is whole.

    Hidden files and folders (".finetune") are left out. The order depends on the names only.

    Args:
        field: name of the setting that the folder came from, for error messages.
        on_picture: told (done, total) after each picture.
        look: decodes a picture; one that remembers what it saw makes a second scan fast.

    Raises:
        InputError: no folder, not readable, or no usable picture in it (naming those that are broken).
    """
    files, unreadable = _files(folder, field)
    kinds = readable_kinds()
    candidates = [path for path in files if path.suffix.lower() in kinds]
    texts = CaptionFiles(path for path in files if path.suffix.lower() in CAPTION_KINDS)
    tables = CaptionTables(files, candidates)
    used = [path for path in candidates if _kohya(path, folder)[0] > 0]
    pictures, broken = [], list(unreadable)
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="finetune-scan") as pool:
        # Leaving the loop early, by a stop, cancels what has not begun.
        for done, (path, seen) in enumerate(zip(used, pool.map(look, used), strict=True), start=1):
            if isinstance(seen, str):
                broken.append((path, seen))
            else:
                repeats, words = _kohya(path, folder)
                name = _relative(path, folder)
                text, file = texts.read(path)
                if text is None:
                    text, file = tables.read(path)
                pictures.append(Picture(path, *seen.size, text, repeats, seen.content, words, seen.focus, name, file))
            if on_picture is not None:
                on_picture(done, len(used))
    report = Report(
        folder,
        tuple(pictures),
        tuple(broken),
        texts.orphans(candidates),
        texts.doubles(candidates),
        (*texts.unread, *tables.unread),
        tuple(path for path in files if path.suffix.lower() in _OTHER_KINDS - kinds),
        tuple(path for path in candidates if _kohya(path, folder)[0] == 0),
        (*folder_names.remarks(candidates, folder), *tables.notes()),
    )
    if not pictures:
        raise InputError([Problem(field, _nothing_usable(report, kinds))])
    return report


def _files(folder: Path, field: str) -> tuple[list[Path], list[tuple[Path, str]]]:
    """All files below a folder in the order of their names, and the subfolders that cannot be read."""
    files: list[Path] = []
    unreadable: list[tuple[Path, str]] = []
    waiting, visited = [folder], {os.path.realpath(folder)}
    while waiting:
        here = waiting.pop()
        try:
            entries = [(here / entry.name, entry.is_dir()) for entry in os.scandir(here) if not entry.name.startswith(".")]
        except OSError as error:
            if here == folder:
                raise InputError([Problem(field, _no_folder(folder, error))]) from error
            unreadable.append((here, f"the folder cannot be read: {error.strerror or error}"))
            continue
        for path, is_folder in entries:
            if not is_folder:
                files.append(path)
            elif (real := os.path.realpath(path)) not in visited:  # a link that leads back is not followed
                visited.add(real)
                waiting.append(path)
    return sorted(files, key=lambda path: _name_order(path, folder)), unreadable


def _no_folder(folder: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f'the folder "{folder}" does not exist. Choose the folder that holds the pictures.'
    if isinstance(error, NotADirectoryError):
        return f'"{folder}" is a file. Choose the folder that holds the pictures.'
    return f'the folder "{folder}" cannot be read ({error.strerror or error}). Allow it to be read, or choose another.'


def _name_order(path: Path, folder: Path) -> tuple[str, str]:
    name = _relative(path, folder)
    return name.casefold(), name


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def readable_kinds() -> frozenset[str]:
    """Endings of the kinds of pictures that are read, in lower case."""
    Image.init()
    if _AVIF not in Image.registered_extensions():
        try:
            import pillow_avif  # noqa: F401  # registers itself; the WebUI has it, newer Pillows need it no more
        except ImportError:
            return _KINDS
    return _KINDS | {_AVIF}


def _kohya(path: Path, folder: Path) -> tuple[int, str | None]:
    """Repeats and words of the nearest folder named as kohya's trainers want it ("10_zxq dog"), the scanned one included."""
    for parent in path.parents:
        match = _KOHYA_FOLDER.fullmatch(parent.name)
        if match:
            return int(match[1]), " ".join(match[2].split())
        if parent == folder:
            break
    return 1, None


class CaptionFiles:
    """Caption files of a folder and the pictures that they belong to: same folder, same stem."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._exact = {(path.parent, path.stem, path.suffix.lower()): path for path in paths}
        # Pictures and texts from Windows may differ in letter case.
        self._loose = {(parent, stem.casefold(), kind): path for (parent, stem, kind), path in self._exact.items()}
        self.unread: list[tuple[Path, str]] = []
        self._refused: set[Path] = set()

    def of(self, picture: Path) -> list[Path]:
        """The picture's caption files, the one that counts first."""
        return list(self._of(picture))

    def read(self, picture: Path) -> tuple[str | None, Path | None]:
        """The caption, its alternatives in lines, and the file that it stands in, or nothing when there is none that can be read."""
        for path in self._of(picture):
            try:
                return caption_syntax.tidied(read_text(path)), path
            except NotTextError as error:
                self._refuse(path, str(error))
            except OSError as error:
                self._refuse(path, f"it cannot be read: {error.strerror or error}")
            return None, None
        return None, None

    def orphans(self, pictures: Iterable[Path]) -> tuple[Path, ...]:
        """The files that belong to none of the pictures."""
        owned = {path for picture in pictures for path in self._of(picture)}
        return tuple(path for path in self._exact.values() if path not in owned)

    def doubles(self, pictures: Iterable[Path]) -> tuple[Path, ...]:
        """The files that are passed over for another of the same picture."""
        return tuple(dict.fromkeys(path for picture in pictures for path in self.of(picture)[1:]))

    def _of(self, picture: Path) -> Iterator[Path]:
        for kind in CAPTION_KINDS:
            exact = self._exact.get((picture.parent, picture.stem, kind))
            path = exact or self._loose.get((picture.parent, picture.stem.casefold(), kind))
            if path is not None:
                yield path

    def _refuse(self, path: Path, reason: str) -> None:
        if path not in self._refused:
            self._refused.add(path)
            self.unread.append((path, reason))


def _nothing_usable(report: Report, kinds: frozenset[str]) -> str:
    readable = ", ".join(sorted(kind[1:] for kind in kinds))
    message = f'the folder "{report.folder}" has no picture that can be used.'
    if report.broken:
        named = "; ".join(f"{_relative(path, report.folder)}: {reason}" for path, reason in report.broken[:10])
        more = len(report.broken) - 10
        message += f" Broken: {named}{f'; and {more} more' if more > 0 else ''}."
    if report.other_kinds:
        others = ", ".join(sorted({path.suffix.lower() for path in report.other_kinds}))
        message += f" It holds {_count(len(report.other_kinds), 'picture')} of other kinds ({others})."
    if report.never:
        message += f" {_count(len(report.never), 'picture')} in folders whose name asks for 0 repeats."
    return f"{message} Pictures may be {readable}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
