"""What is done at the end of a stage whatever happened: the first error is the one that is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib_finetune.ports.events import ProgressSink

_log = logging.getLogger(__name__)


@contextmanager
def at_the_end(what: str, action: Callable[[], None], sink: ProgressSink) -> Iterator[None]:
    """Do ``action`` when the block is left; after an error in the block, its own error is only said."""
    try:
        yield
    except BaseException:
        with beside_an_error(what, sink):
            action()
        raise
    action()


@contextmanager
def beside_an_error(what: str, sink: ProgressSink) -> Iterator[None]:
    """Around what is done because of an error: what fails here is said and does not hide the first error."""
    try:
        yield
    except BaseException as error:  # noqa: BLE001  whatever it is, it came second
        _log.warning("%s failed", what, exc_info=True)
        sink.say(f"{what} failed, too: {error}")
