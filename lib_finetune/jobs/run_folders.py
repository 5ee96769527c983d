"""The folders of runs below a host's data: made for new runs, and found where a run can be resumed."""

from __future__ import annotations

import time
import unicodedata
from pathlib import Path

from lib_finetune.config.settings import Settings
from lib_finetune.errors import InUseError, SaveError
from lib_finetune.files import same_name
from lib_finetune.jobs.folder_lock import run_lock
from lib_finetune.ports.host import Host
from lib_finetune.runs import repair
from lib_finetune.runs.folder import RunFolder

_MOST_NAME_BYTES = 120
"""The most characters of a folder's name beside its time: file systems take 255."""


def make_folder(data: Path, name: str) -> Path:
    """Make a folder for a new run, named by time; no two runs share one.

    Raises:
        SaveError: the folder cannot be made.
    """
    composed = unicodedata.normalize("NFC", name)
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in composed)[:60] or "run"
    safe = safe.encode("utf-8")[:_MOST_NAME_BYTES].decode("utf-8", "ignore")
    base, number = data / "runs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{safe}", 1
    while True:
        folder = base if number == 1 else base.with_name(f"{base.name}-{number}")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except FileExistsError:
            number += 1
        except OSError as error:
            raise SaveError(f"{folder} cannot be made: {error.strerror or error}. Check its permissions and the disk.") from error
        else:
            return folder


def unfinished(host: Host, name: str | None = None) -> list[Path]:
    """Folders of runs that can be resumed, newest first; with ``name``, only those of that result."""
    runs = host.paths.data / "runs"
    folders = sorted(runs.iterdir(), reverse=True) if runs.is_dir() else []
    resumable = [(folder, _settings(RunFolder(folder))) for folder in folders if RunFolder(folder).resumes()]
    return [folder for folder, settings in resumable if settings is not None and (name is None or same_name(name, settings.name, runs))]


def _settings(folder: RunFolder) -> Settings | None:
    """The settings of a run that can be resumed; if they are damaged, they are written anew from its state."""
    settings = folder.settings()
    if settings is not None:
        return settings
    try:
        with run_lock(folder.path):
            repair.mend(folder)
    except InUseError:
        return None
    return folder.settings()
