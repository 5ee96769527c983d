"""One program at a time works in Finetune's folder: two would run the same waiting job twice."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.errors import HostError

if TYPE_CHECKING:
    from filelock import BaseFileLock

_FILE = "finetune.lock"
_HELD: dict[Path, BaseFileLock] = {}
_ONE_AT_A_TIME = threading.Lock()


def hold(data: Path) -> None:
    """Take the folder for this process until it ends, however it ends; the same process may take it again.

    Raises:
        HostError: another program has it, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    place = data.absolute()
    with _ONE_AT_A_TIME:
        if place in _HELD:
            return
        try:
            place.mkdir(parents=True, exist_ok=True)
            lock = FileLock(str(place / _FILE))
            lock.acquire(timeout=0)
        except Timeout:
            message = (
                f"Another program trains with the folder {place}: a second WebUI, a page of Finetune, or a training that continues. "
                "End it, or start this one with another data folder (--data-dir, --output-root)."
            )
            raise HostError(message) from None
        except OSError as error:
            raise HostError(f"{place} cannot be used: {error.strerror or error}. Check its permissions.") from error
        _HELD[place] = lock
