"""Images of a run: the host makes them, and answers the person's buttons between two sampling steps."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lib_finetune.errors import FinetuneError, PictureInterruptedError

if TYPE_CHECKING:
    from PIL import Image

    from lib_finetune.ports.pictures import HostPictures, PictureRequest
    from lib_finetune.runs.control import Control

AFTER_STOP_S = 1.5
"""Seconds that a run may still take, once a stop is asked for, for work that is not its result (the loss of the last step, the card's image)."""


class StoppedWhilePaintingError(FinetuneError):
    """The person asked for a stop while the host made an image, or the image would take too long after a stop."""


class Patience:
    """The time that a stopping run may spend on work that is not its result; one object for the whole run."""

    def __init__(self, stop_asked: Callable[[], bool]) -> None:
        self._stop_asked = stop_asked
        self._ends: float | None = None

    def begin(self) -> None:
        """The work at the end of a run begins; an earlier stop leaves a little time for it."""
        if self._ends is None and self._stop_asked():
            self._ends = time.monotonic() + AFTER_STOP_S

    def is_over(self) -> bool:
        """Whether to give the work up now: at once if the stop comes during the work."""
        if not self._stop_asked():
            return False
        if self._ends is None:
            self._ends = time.monotonic()
        return time.monotonic() >= self._ends


class Painter:
    """Has the host make images. A stop ends the image; a pause, or a press of Save, interrupts it and begins it again afterwards."""

    def __init__(self, pictures: HostPictures, control: Control, rest: Callable[[Callable[[], None]], None], patience: Patience) -> None:
        """
        Args:
            rest: returns when no pause is asked for any more; meanwhile it calls its argument.
        """
        self._pictures = pictures
        self._control = control
        self._rest = rest
        self._patience = patience
        self._save: Callable[[], None] | None = None
        self._save_pressed = False

    @contextmanager
    def saving(self, save: Callable[[], None]) -> Iterator[None]:
        """Inside, ``save`` answers a press of Save while an image is interrupted."""
        self._save = save
        try:
            yield
        finally:
            self._save = None

    def paint(self, request: PictureRequest, count: int, on_step: Callable[[int, int], None]) -> list[Image.Image]:
        """As `HostPictures.make_batch`.

        Raises:
            StoppedWhilePaintingError: a stop is asked for.
            PictureInterruptedError: the person pressed Interrupt in the WebUI.
            FinetuneError: as `HostPictures.make_batch`.
        """
        request = dataclasses.replace(request, interrupt_asked=self._is_called, on_step=on_step)
        while True:
            if self._patience.is_over():
                raise StoppedWhilePaintingError("A stop was asked for.")
            try:
                return self._pictures.make_batch(request, count)
            except PictureInterruptedError:
                if not self._is_called():
                    raise
            self._answer()

    def _is_called(self) -> bool:
        """Whether to interrupt the image; the host asks, perhaps from a thread of its own."""
        if self._save is not None and self._control.save_asked():
            self._save_pressed = True
        return self._save_pressed or self._control.pause_asked() or self._patience.is_over()

    def _answer(self) -> None:
        self._save_if_pressed()
        self._rest(self._save_if_pressed)

    def _save_if_pressed(self) -> None:
        if self._save is None or not (self._save_pressed or self._control.save_asked()):
            return
        self._save_pressed = False
        self._save()
