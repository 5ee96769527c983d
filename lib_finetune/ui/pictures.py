"""Dropped pictures: copied into a dataset folder of Finetune's own, under the names they came with."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from lib_finetune.errors import SaveError


def keep(files: Sequence[tuple[str, Path]], folder: Path) -> Path:
    """Copy dropped files into ``folder``; a name that is there is replaced, for it was dropped again.

    Args:
        files: (name as dropped, where the browser's copy lies).

    Raises:
        SaveError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, place in files:
            shutil.copyfile(place, folder / Path(name).name)
    except OSError as error:
        raise SaveError(f"The pictures could not be copied to {folder}: {error.strerror}.") from error
    return folder
