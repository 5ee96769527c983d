"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from lib_finetune.errors import InputError, SaveError


def write_atomically(path: Path, content: bytes) -> None:
    """Write bytes; see `replacing`.

    Raises:
        SaveError: as `replacing`.
    """
    with replacing(path) as file:
        file.write(content)


def safe_name(text: str) -> str:
    """Text as a part of a file name: letters, digits, "-", "_" and "."; it never begins with a dot."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in text).strip(".")[:60]


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


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file beside the target to write to, flushed to the disk and put in place in one step when the block is left without an error.

    Raises:
        SaveError: what failed, where, and what to do; a file that stood at ``path`` is untouched and no rest stays.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes files that other users of the WebUI cannot read
        os.replace(temporary, path)
    except OSError as error:
        raise SaveError(
            f"{path} could not be written: {error.strerror or error}. Free some space or check the folder's permissions."
        ) from error
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def at_home(text: str) -> Path:
    """A path as a person writes it, ``~`` their home; that of a user who does not exist is taken by the letter."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def names_file(text: str, endings: Collection[str]) -> bool:
    """Whether a text that may be words too means a file: it has a slash, begins at home, ends like one, or names one that is there.

    Args:
        endings: with their dots, lower-case.
    """
    name = text.strip().strip("\"'")
    if "/" in name or "\\" in name or name.startswith("~") or Path(name).suffix.lower() in endings:
        return True
    try:
        return bool(name) and Path(name).is_file()
    except (OSError, ValueError):  # too long for a name, or with what no name has
        return False
