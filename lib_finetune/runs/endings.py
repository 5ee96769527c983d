"""Actions at the end of a stage, whatever happened in it; the first error is the one that is raised."""

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
    """Do ``action`` when the block ends; after an error in the block, an error of the action is only reported."""
    try:
        yield
    except BaseException:
        with beside_an_error(what, sink):
            action()
        raise
    action()


@contextmanager
def beside_an_error(what: str, sink: ProgressSink) -> Iterator[None]:
    """Around an action that follows an error: a failure of the action is reported and does not hide the first error."""
    try:
        yield
    except BaseException as error:  # noqa: BLE001  any error here is the second one
        _log.warning("%s failed", what, exc_info=True)
        sink.say(f"{what} failed, too: {error}")
