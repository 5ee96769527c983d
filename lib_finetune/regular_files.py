"""Which files are opened: regular ones. A pipe waits for whoever writes into it, and a device such as /dev/zero never ends."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

_KINDS = ((stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))


def fault(path: Path) -> str | None:
    """Why a file is not opened, such as "it is a named pipe, not a regular file"; None for a regular one, a folder, and where nothing is.

    The file itself is not touched; a link counts as what it leads to.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # the last one: with what no name has
        return None
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return None
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "of an unknown kind")
    return f"it is {kind}, not a regular file"


def read(path: Path, at_most: int | None = None) -> bytes:
    """What a regular file holds.

    Args:
        at_most: so many bytes and one more, by which a larger file is seen; None reads all.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    if reason := fault(path):
        raise OSError(errno.EINVAL, reason, str(path))
    with path.open("rb") as file:
        return file.read() if at_most is None else file.read(at_most + 1)
