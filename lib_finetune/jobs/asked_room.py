"""Waiting for room on the disk in the tab: the job pauses until the person presses Resume or Stop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lib_finetune.runs.control import PAUSED

if TYPE_CHECKING:
    from lib_finetune.errors import DiskError
    from lib_finetune.jobs.control import JobControl
    from lib_finetune.ports.events import ProgressSink

_POLL_S = 0.2


class AskedRoom:
    """Implements `runs.room.RoomWait`."""

    words = "The training is paused: make room and press Resume, or press Stop."
    asks = True

    def __init__(self, control: JobControl, sink: ProgressSink) -> None:
        self._control = control
        self._sink = sink

    def again(self, error: DiskError, began: float) -> bool:
        """See `RoomWait`; True at Resume, False at Stop."""
        with self._control.resting():
            while self._control.pause_asked() and not self._control.stop_asked():
                self._sink.stage(PAUSED)
                time.sleep(_POLL_S)
            self._sink.stage("save")  # no pause any more, before the next one can begin
            return not self._control.stop_asked()
