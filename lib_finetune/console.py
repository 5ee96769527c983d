"""A console that has not all letters: those of Windows speak cp1252, cp936 and others, in which a bar or a file's name may have no place."""

from __future__ import annotations

import sys
from typing import TextIO

FULL, EMPTY = "█", "░"


def take_all_letters() -> None:
    """Have a letter that the console does not know written as "?", so that nothing that is printed ends a program."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def bar(share: float, width: int, stream: TextIO) -> str:
    """A bar of which so large a share is full, in signs that the stream has.

    Args:
        share: 0 to 1.
        width: in signs.
    """
    done = int(share * width)
    try:
        (FULL + EMPTY).encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return "#" * done + "-" * (width - done)
    return FULL * done + EMPTY * (width - done)
