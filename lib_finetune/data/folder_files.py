"""The files of a folder and its subfolders, in the order of their names."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from lib_finetune import regular_files
from lib_finetune.data.file_kinds import is_system_folder
from lib_finetune.errors import InputError, Problem


@dataclass
class FolderFiles:
    """What lies in a folder.

    Attributes:
        files: all of them; a hidden folder, or one of a system, stands for what is in it.
        apart: those of them that lie in the folder of others.
        unreadable: subfolders that cannot be read, with the reason.
    """

    files: list[Path] = field(default_factory=list)
    apart: set[Path] = field(default_factory=set)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)


def files_of(folder: Path, setting: str, others: Path | None = None) -> FolderFiles:
    """Find all files; a link to a folder is followed once.

    Args:
        setting: name of the setting that the folder came from, for error messages.
        others: a folder whose files are listed in ``apart``, whatever path leads to them.

    Raises:
        InputError: there is no such folder, or it cannot be read.
    """
    listing = FolderFiles()
    waiting, visited = [folder], {os.path.realpath(folder)}
    while waiting:
        here = waiting.pop()
        try:
            entries = [(here / entry.name, entry) for entry in os.scandir(here)]
        except OSError as error:
            if here == folder:
                raise InputError([Problem(setting, _no_folder(folder, error))]) from error
            listing.unreadable.append((here, f"the folder cannot be read: {error.strerror or error}"))
            continue
        of_others = others is not None and lies_in(here, others)
        for path, entry in entries:
            if not entry.is_file() and (reason := regular_files.fault(path)):
                listing.unreadable.append((path, reason))
            elif not entry.is_dir() or is_system_folder(path.name):
                listing.files.append(path)
                if of_others or (others is not None and entry.is_symlink() and lies_in(path, others)):
                    listing.apart.add(path)
            elif (real := os.path.realpath(path)) not in visited:  # a link that leads back is not followed
                visited.add(real)
                waiting.append(path)
    listing.files.sort(key=lambda path: _name_order(path, folder))
    return listing


def lies_in(path: Path, folder: Path) -> bool:
    """Whether a file or folder is that folder or lies in it, whatever name or link leads to it."""
    real = Path(os.path.realpath(path))
    return any(is_same(place, folder) for place in (real, *real.parents))


def is_same(path: Path, other: Path) -> bool:
    """Whether two paths lead to one place; a file system that ignores letter case is asked itself."""
    if os.path.realpath(path) == os.path.realpath(other):
        return True
    try:
        return path.samefile(other)
    except OSError:
        return False


def _no_folder(folder: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f'the folder "{folder}" does not exist. Choose the folder that holds the images.'
    if isinstance(error, NotADirectoryError):
        return f'"{folder}" is a file. Choose the folder that holds the images.'
    return f'the folder "{folder}" cannot be read ({error.strerror or error}). Allow it to be read, or choose another.'


def _name_order(path: Path, folder: Path) -> tuple[str, str]:
    name = path.relative_to(folder).as_posix()
    return name.casefold(), name
