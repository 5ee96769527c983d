"""A folder of pictures with captions: what is usable, what is broken, what belongs to nothing."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps, features

from lib_finetune.data.images import BROKEN
from lib_finetune.errors import InputError, Problem

CAPTIONS = (".txt", ".caption")  # the first wins
_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".avif"}
_OTHER_PICTURES = {".heic", ".heif", ".tif", ".tiff", ".gif", ".psd", ".raw", ".svg", ".jxl"}
_KOHYA = re.compile(r"^(\d+)_(.+)$")
_WORKERS = 8


@dataclass(frozen=True)
class Picture:
    """A usable picture.

    Attributes:
        width_px, height_px: upright, after EXIF rotation.
        caption: text of its caption file, or None without one.
        repeats: times an epoch shows it (kohya's ``10_name class`` folders).
        folder_words: the words of such a folder's name, or None.
        content: sha256 of the file's bytes, hex.
    """

    path: Path
    width_px: int
    height_px: int
    caption: str | None
    repeats: int
    folder_words: str | None
    content: str


@dataclass(frozen=True)
class Report:
    """What a folder holds.

    Attributes:
        broken: files that cannot be used, with the reason.
        orphans: caption files that belong to no picture.
        remarks: further things to be said.
    """

    folder: Path
    pictures: tuple[Picture, ...]
    broken: tuple[tuple[Path, str], ...]
    orphans: tuple[Path, ...]
    remarks: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report in plain words."""
        captions = sum(picture.caption is not None for picture in self.pictures)
        lines = [f"{self.folder.name}: {len(self.pictures)} pictures, {captions} with a caption file."]
        lines += [f"Left out: {path.relative_to(self.folder)} ({reason})." for path, reason in self.broken]
        lines += [f"This caption belongs to no picture: {path.relative_to(self.folder)}." for path in self.orphans]
        return [*lines, *self.remarks]


def scan(folder: Path) -> Report:
    """Find the pictures of a folder and its subfolders, in the order of their relative paths.

    Every picture is decoded once, so that a truncated file is found now and not in the middle of a training.

    Raises:
        InputError: the folder is missing, unreadable, no folder, or holds no usable picture.
    """
    files = _files(folder)
    candidates = [path for path in files if path.suffix.lower() in _PICTURES]
    with ThreadPoolExecutor(_WORKERS) as pool:
        sizes = list(pool.map(_examine, candidates))
    broken = tuple((path, found) for path, found in zip(candidates, sizes) if isinstance(found, str))
    remarks: list[str] = []
    pictures = tuple(
        _picture(folder, path, found, remarks) for path, found in zip(candidates, sizes) if not isinstance(found, str)
    )
    if not pictures:
        raise _refused(_nothing(folder, files, broken))
    stems = {path.with_suffix("") for path in candidates} | set(candidates)
    orphans = tuple(path for path in files if path.suffix.lower() in CAPTIONS and path.with_suffix("") not in stems)
    return Report(folder, pictures, broken, orphans, tuple(remarks))


def _files(folder: Path) -> list[Path]:
    if not str(folder).strip() or not folder.exists():
        raise _refused(f"the folder {folder} does not exist. Check the path.")
    if not folder.is_dir():
        raise _refused(f"{folder} is a file. Name the folder that holds the pictures.")
    faults: list[OSError] = []
    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=faults.append, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place) / name for name in names if not name.startswith(".")]
    if faults:
        raise _refused(f"{faults[0].filename} cannot be read: {faults[0].strerror}. Check its permissions.")
    return sorted(found, key=lambda path: (path.relative_to(folder).as_posix().lower(), path.as_posix()))


def _examine(path: Path) -> tuple[int, int, str] | str:
    """(width, height, sha256), or why the picture is of no use."""
    if path.suffix.lower() == ".avif" and not _reads_avif():
        return "this installation cannot read AVIF; convert it to PNG or JPEG"
    try:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        with Image.open(path) as image:
            image.seek(0)
            image.load()
            width, height = ImageOps.exif_transpose(image).size
    except BROKEN as error:
        return f"broken: {error}"
    return width, height, content


def _reads_avif() -> bool:
    return ".avif" in Image.registered_extensions() or bool("avif" in features.modules and features.check("avif"))


def _picture(folder: Path, path: Path, found: tuple[int, int, str], remarks: list[str]) -> Picture:
    width, height, content = found
    caption = _caption(path, remarks)
    named = _KOHYA.match(path.parent.name) if path.parent != folder or _KOHYA.match(folder.name) else None
    repeats = max(1, int(named[1])) if named else 1
    return Picture(path, width, height, caption, repeats, named[2].replace("_", " ") if named else None, content)


def _caption(path: Path, remarks: list[str]) -> str | None:
    files = [path.with_suffix(suffix) for suffix in CAPTIONS] + [path.with_name(path.name + suffix) for suffix in CAPTIONS]
    present = [file for file in files if file.is_file()]
    if len(present) > 1:
        remarks.append(f"{path.name} has more than one caption file; {present[0].name} is read.")
    for file in present[:1]:
        try:
            return " ".join(file.read_text(encoding="utf-8-sig").split())
        except (UnicodeDecodeError, OSError) as error:
            reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error.strerror)
            remarks.append(f"The caption {file.name} cannot be read: {reason}. The template is used instead.")
    return None


def _nothing(folder: Path, files: Iterable[Path], broken: tuple[tuple[Path, str], ...]) -> str:
    kinds = sorted({path.suffix.lower() for path in files} & _OTHER_PICTURES)
    if broken:
        names = "; ".join(f"{path.name} ({reason})" for path, reason in broken[:5])
        return f"{folder} holds no usable picture: {names}."
    if kinds:
        return f"{folder} holds only {', '.join(kinds)} pictures. Convert them to PNG or JPEG."
    return f"{folder} holds no pictures (png, jpg, webp, bmp, avif)."


def _refused(message: str) -> InputError:
    return InputError([Problem("data.images", message)])
