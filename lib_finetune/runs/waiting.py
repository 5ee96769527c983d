"""Waiting: for the checkpoint of the run, and while the person pauses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from lib_finetune.errors import CheckpointChangedError, FinetuneError
from lib_finetune.runs import checkpoint_record
from lib_finetune.runs.control import PAUSED

if TYPE_CHECKING:
    from lib_finetune.ports.checkpoint import CheckpointInfo
    from lib_finetune.ports.events import ProgressSink
    from lib_finetune.ports.host import HostWeights
    from lib_finetune.runs.control import Control
    from lib_finetune.runs.folder import RunFolder
    from lib_finetune.training.turns import Turns

_CHECKPOINT_POLL_S = 0.5
_PAUSE_POLL_S = 0.2
_Answer = TypeVar("_Answer")


class StoppedWhileWaiting(FinetuneError):  # noqa: N818  no fault, but the person's wish
    """The person chose to stop while the run waited for its checkpoint."""


class Waiting:
    """Waits without holding anything of the host."""

    def __init__(self, info: CheckpointInfo, folder: RunFolder, host: HostWeights, sink: ProgressSink, control: Control) -> None:
        """
        Args:
            info: the checkpoint that the run needs.
        """
        self._info = info
        self._folder = folder
        self._host = host
        self._sink = sink
        self._control = control

    def for_checkpoint(self, changed: CheckpointChangedError) -> None:
        """Wait a moment for the run's checkpoint; called again and again while another one is loaded.

        Raises:
            StoppedWhileWaiting: the person does not want to wait.
            InputError: the checkpoint's file was replaced meanwhile.
            HostError: the checkpoint does not load.
        """
        checkpoint_record.check_unchanged(checkpoint_record.stored(self._folder) or self._info, self._folder)
        if self._control.stop_asked():
            raise StoppedWhileWaiting(str(changed))
        if self._control.pause_asked():
            self.while_paused()
            return
        self._sink.stage(f"waiting for {changed.needed}")
        if self._control.load_asked():
            self._host.load(self._info)
            return
        time.sleep(_CHECKPOINT_POLL_S)

    def retry_until_checkpoint_loaded(self, action: Callable[[], _Answer]) -> _Answer:
        """Do what needs the run's checkpoint and return the outcome; while another one is loaded, wait and begin anew.

        Raises:
            StoppedWhileWaiting: the person does not want to wait.
        """
        while True:
            try:
                return action()
            except CheckpointChangedError as changed:
                self.for_checkpoint(changed)

    def while_paused(self, buttons: Callable[[], None] = lambda: None) -> None:
        """Return when the pause is over, or when a stop is asked for.

        Args:
            buttons: answers the person's buttons during the pause.
        """
        rest_while_paused(self._control, self._sink, buttons)

    def is_called(self) -> bool:
        """Whether a stop or a pause is asked for; any thread, at once."""
        return self._control.stop_asked() or self._control.pause_asked()

    def heed(self, done: int, total: int) -> None:
        """See `heed`, while images are looked at.

        Raises:
            StoppedWhileWaiting: a stop is asked for.
        """
        heed(self._control, self._sink, "pictures", done, total)

    def stop_asked(self) -> bool:
        """Whether to stop; while a pause is asked for, it waits. Call with no turn held."""
        self.while_paused()
        return self._control.stop_asked()


def rest_while_paused(control: Control, sink: ProgressSink, buttons: Callable[[], None] = lambda: None) -> None:
    """See `Waiting.while_paused`."""
    while control.pause_asked() and not control.stop_asked():
        sink.stage(PAUSED)
        buttons()
        time.sleep(_PAUSE_POLL_S)


def heed(control: Control, sink: ProgressSink, stage: str, done: int, total: int) -> None:
    """Show the progress of a stage, and wait while a pause is asked for; for stages that hold nothing of the host.

    Raises:
        StoppedWhileWaiting: a stop is asked for.
    """
    sink.stage(stage, done, total)
    rest_while_paused(control, sink)
    if control.stop_asked():
        raise StoppedWhileWaiting(f"Stopped at {done} of {total}.")


@contextmanager
def closing_turn(turns: Turns) -> Iterator[None]:
    """End an open turn if the person stops while the run waits."""
    try:
        yield
    except StoppedWhileWaiting:
        turns.close()
        raise
