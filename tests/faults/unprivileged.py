"""Giving up root in a child: root reads and writes everywhere, so that a test of permissions under it would test nothing."""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import sys
import traceback
from pathlib import Path

NOBODY = 65534
_CAPABILITIES_3 = 0x20080522
"""Linux: ``_LINUX_CAPABILITY_VERSION_3``, of two words of 32 bits."""


def give_up_root() -> None:
    """Make this process one that permissions bind; of an ordinary user it is one already.

    On Linux all capabilities are dropped, which is what root is made of; the user id stays, for the interpreter may lie in root's home, which
    another user cannot read. Elsewhere the user becomes nobody.

    Raises:
        OSError: it is impossible here.
    """
    if os.geteuid() != 0:
        return
    if sys.platform == "linux":
        header = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0)
        nothing = (ctypes.c_uint32 * 6)()
        if ctypes.CDLL(None, use_errno=True).capset(header, nothing):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), "capset")
    else:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def foreign(folder: Path) -> Path:
    """A folder of another user, which may be read and not written: this one where we are root, else one of root's."""
    if os.geteuid() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        for path in (*folder.rglob("*"), folder):
            os.chown(path, NOBODY, NOBODY)
        return folder
    return Path("/etc")


def _run_all() -> None:
    """Commands from the standard input, a JSON list of lists of arguments; [[exit code, what was printed], …] as the last line."""
    from lib_finetune.__main__ import main

    outcomes = []
    for arguments in json.load(sys.stdin):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                code = main(arguments)
            except BaseException:  # noqa: BLE001  what a person would see as a traceback
                code = -1
                traceback.print_exc()
        outcomes.append([code, printed.getvalue()])
    print(json.dumps(outcomes))


if __name__ == "__main__":
    give_up_root()
    _run_all()
