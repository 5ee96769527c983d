"""Files that another program has open. On Windows they cannot be replaced until it lets them go; elsewhere they can."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

LOCKS = sys.platform == "win32"
"""Whether this system refuses to replace an open file."""
PATIENCE_S = 2.0
"""An antivirus program or an indexer lets a new file go within that time."""
_POLL_S = 0.05


def put_in_place(source: Path | str, target: Path) -> None:
    """Rename a file to ``target``, whose old content goes; a file that another program has open is tried again for `PATIENCE_S`.

    Raises:
        OSError: as `os.replace`; of a file that stays open, with a message that says whose it may be.
    """
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            os.replace(source, target)
        except PermissionError as error:
            if not LOCKS:
                raise
            if time.monotonic() > until:
                raise PermissionError(error.errno, _words(target, error), str(target)) from error
            time.sleep(_POLL_S)
        else:
            return


def _words(target: Path, error: OSError) -> str:
    programs = (
        "an image viewer or an antivirus program"
        if target.suffix.lower() in (".png", ".jpg", ".webp")
        else "the WebUI or an antivirus program"
    )
    return f"{error.strerror or 'permission denied'}; another program may have it open, perhaps {programs}. Close it there, then try again"
