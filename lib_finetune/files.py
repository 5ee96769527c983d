"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from lib_finetune.errors import SaveError


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside the target, flush to the disk, then put it in place in one step.

    Raises:
        SaveError: what failed, where, and what to do; a file that stood at ``path`` is untouched and no rest stays.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
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
