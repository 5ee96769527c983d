"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import subprocess
import sys
import unicodedata
import urllib.parse
from collections.abc import Collection, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO, Protocol

from lib_finetune.errors import DiskError, InputError
from lib_finetune.locked_files import put_in_place

_UMASK = os.umask(0)
"""What the person's new files are not open to. It cannot be read without being set, so it is read once, at the start."""
os.umask(_UMASK)
_AROUND = " \t\r\n\u00a0\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
"""Spaces, and marks that nobody sees: Windows copies U+202A along from a file's properties."""
_QUOTES = frozenset(
    {('"', '"'), ("'", "'"), ("`", "`"), ("\u201c", "\u201d"), ("\u201e", "\u201c"), ("\u2018", "\u2019"), ("\u00ab", "\u00bb"), ("<", ">")}
)
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def write_atomically(path: Path, content: bytes) -> None:
    """Write bytes; see `replacing`.

    Raises:
        DiskError: as `replacing`.
    """
    with replacing(path, len(content)) as file:
        file.write(content)


def safe_name(text: str) -> str:
    """Text as a part of a file name: letters, digits, "-", "_" and "."; it never begins with a dot."""
    composed = unicodedata.normalize("NFC", text)
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in composed).strip(".")[:60]


def same_name(name: str, other: str, folder: Path) -> bool:
    """Whether two names look the same, their accents composed or not; letter case counts where the file system of ``folder`` heeds it."""
    name, other = (unicodedata.normalize("NFC", text) for text in (name, other))
    return name == other or (name.casefold() == other.casefold() and _ignores_case(folder))


def nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there; one inside a folder that may not be looked into counts as not there."""
    for place in (folder, *folder.parents):
        try:
            if place.exists():
                return place
        except PermissionError:
            continue
    return folder


def standing(path: Path) -> Path | None:
    """The file at a path, or one beside it of the `same_name`; None where neither is."""
    try:
        if path.exists():
            return path
        beside = [] if path.name.isascii() else sorted(path.parent.iterdir())
    except OSError:
        return None
    return next((file for file in beside if same_name(file.name, path.name, path.parent)), None)


def _ignores_case(folder: Path) -> bool:
    """Whether the nearest folder above that exists is found under its name in the other case too."""
    for place in (folder, *folder.parents):
        other = place.with_name(place.name.swapcase()) if place.name else place
        try:
            if other != place and place.exists():
                return other.exists() and place.samefile(other)
        except PermissionError:
            continue
    return False


def bears_name_of(path: Path, target: Path) -> bool:
    """Whether a file is ``target`` itself or lies beside it under its name with numbers behind, as a free name has them; links are followed."""
    try:
        beside = path.is_absolute() and path.parent.resolve() == target.parent.resolve()
    except (OSError, ValueError, RuntimeError):  # a name that cannot be, a circle of links
        return False
    return beside and path.suffix == target.suffix and re.fullmatch(re.escape(target.stem) + r"(-\d+)*", path.stem) is not None


def open_in_file_manager(folder: Path) -> None:
    """Show a folder with the program that this system has for it.

    Raises:
        InputError: there is none.
    """
    if sys.platform == "win32":
        os.startfile(folder)
        return
    program = shutil.which("open" if sys.platform == "darwin" else "xdg-open")
    if program is None:
        raise InputError(f"This machine has no program that shows folders. The folder is {folder}.")
    subprocess.Popen([program, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class WriteLog(Protocol):
    """Receives each file that is written within `logged_to`."""

    def begins(self, temporary: Path, target: Path) -> None:
        """A file is about to be made beside its target."""

    def ready(self, temporary: Path, target: Path) -> None:
        """It is whole, and about to take its place."""

    def ended(self, temporary: Path) -> None:
        """It is in its place, or gone."""


_LOG: ContextVar[WriteLog | None] = ContextVar("write log", default=None)
TEMPORARY = r"\.(.{1,40})\.[0-9a-f]{8}\.part"
"""How a file is called while it is written; the group is how its target's name begins."""


@contextlib.contextmanager
def logged_to(log: WriteLog) -> Iterator[None]:
    """Within, a log receives every file that this thread writes."""
    token = _LOG.set(log)
    try:
        yield
    finally:
        _LOG.reset(token)


def same_place(folder: Path, path: Path) -> bool:
    """Whether a path lies in or below a folder; links are followed."""
    try:
        return path.parent.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a name that cannot be, a circle of links
        return False


def _created(path: Path) -> int:
    """The handle of a new file."""
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666 & ~_UMASK)


@contextlib.contextmanager
def replacing(path: Path, size: int = 0) -> Iterator[BinaryIO]:
    """A file beside the target to write to, flushed to the disk and put in place in one step when the block is left without an error.

    Args:
        size: bytes that will be written, where they are known; the error names them when there is no room for them.

    Raises:
        DiskError: what failed, where, and what to do; a file that stood at ``path`` is untouched and no rest stays.
    """
    temporary: str | None = None
    beside, log = None, _LOG.get()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")
        if log is not None:
            log.begins(beside, path)
        handle, temporary = _created(beside), str(beside)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if log is not None:
            log.ready(beside, path)
        put_in_place(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:
        raise DiskError(
            f"{path} could not be written: {error.strerror or error}.{_room(path, size, error)} "
            "Free some space or check the folder's permissions.",
            path,
        ) from error
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if log is not None and beside is not None:
            log.ended(beside)


def _room(path: Path, size: int, error: OSError) -> str:
    """What is needed and what is free, where the disk is full."""
    if error.errno not in _FULL or not size:
        return ""
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError:
        return f" {bytes_in_words(size)} are needed."
    return f" {bytes_in_words(size)} are needed there, {bytes_in_words(free)} are free."


def bytes_in_words(count: int) -> str:
    """Bytes in the unit that suits them: "12 KB", "3.4 MB", "1.2 GB"."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"


def _flush_folder(folder: Path) -> None:
    """The new name reaches the disk, too: after a loss of power a file is there whole or not at all. Windows has no such call."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):  # the file is in place: some network file systems flush no folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def at_home(text: str) -> Path:
    """A path as a person writes or pastes it (`pasted_path`), absolute, ``~`` their home; that of a user who does not exist is taken by the letter.

    An empty text stays an empty path.
    """
    bare = pasted_path(text)
    return Path(os.path.abspath(_expanded(bare))) if bare else Path()  # noqa: PTH100  resolve() would follow links, and people know the link


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def pasted_path(text: str) -> str:
    """A path without what comes along when it is pasted: spaces at the ends, quotes, ``file://``, marks of direction that Windows adds.

    What exists by the letter stays by the letter.
    """
    if text and os.path.lexists(text):
        return text
    bare = text.strip(_AROUND)
    while len(bare) > 1 and (bare[0], bare[-1]) in _QUOTES:
        bare = bare[1:-1].strip(_AROUND)
    bare = bare.strip('"')
    if bare[:5].lower() == "file:":
        return _of_file_url(bare[5:])
    return next((other for other in _written_otherwise(bare) if os.path.lexists(other)), bare)


def _of_file_url(rest: str) -> str:
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        rest = slash + path if host.lower() in ("", "localhost", "127.0.0.1") else rest
    decoded = urllib.parse.unquote(rest)
    return decoded[1:] if re.match(r"/[A-Za-z]:([/\\]|$)", decoded) else decoded


def _written_otherwise(bare: str) -> Iterator[str]:
    """What a path may mean that does not exist by the letter: copied from a browser's address, or from a terminal."""
    if bare and not os.path.lexists(_expanded(bare)):
        if "%" in bare:
            yield str(_expanded(urllib.parse.unquote(bare)))
        if os.sep == "/" and "\\" in bare:
            yield str(_expanded(re.sub(r"\\(.)", r"\1", bare)))


def names_file(text: str, endings: Collection[str]) -> bool:
    """Whether a text that may be words too means a file: it has a slash, begins at home, ends like one, or names one that is there.

    Args:
        text: as it is typed or pasted; see `pasted_path`.
        endings: with their dots, lower-case.
    """
    name = pasted_path(text)
    if "/" in name or "\\" in name or name.startswith("~") or Path(name).suffix.lower() in endings:
        return True
    try:
        return bool(name) and Path(name).is_file()
    except (OSError, ValueError):  # too long for a name, or with what no name has
        return False
