"""What holds for all of what happens to a run."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def signals_reach_children() -> Iterator[None]:
    """A program inherits what its parent ignores: under nohup, or in the background of a script, no hang-up or Ctrl-C would reach it."""
    ignored = [
        number
        for name in ("SIGHUP", "SIGINT")
        if (number := getattr(signal, name, None)) is not None and signal.getsignal(number) == signal.SIG_IGN
    ]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
