"""What the person presses during a run: Save and Preview are answered soon, whatever the stage."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib_finetune.ports.events import ProgressSink
    from lib_finetune.runs.control import Control

_POLL_S = 0.2
_PATIENCE_S = 1.0
"""A press that a step takes up by then needs no words."""
_BEFORE, _STEPS, _AFTER = "before", "steps", "after"
_NOTHING_YET = {
    "save": "Nothing is trained yet, so there is nothing to save. Press Save now again once the steps run.",
    "preview": "Nothing is trained yet, so there is nothing to preview. Press Preview now again once the steps run.",
}
_NOT_RESUMED = {
    "save": "The training has not resumed yet: the file is saved after its next step.",
    "preview": "The training has not resumed yet: a preview is made after its next step.",
}
_NEXT_STEP = {
    "save": "Save now was pressed: the file is saved once the next step is done.",
    "preview": "Preview now was pressed: a preview is made once the next step is done.",
}
_ENDED = {
    "save": "The steps have ended: nothing more is saved than the result.",
    "preview": "The steps have ended: nothing more is previewed than the result.",
}


class Presses:
    """Implements `runs.control.Control` around another one; hands on what can be done now, and says what becomes of the rest.

    A thread of its own looks at the buttons, because much of a run asks for nothing while it lasts: borrowing the model, a long step,
    writing a file, waiting for the WebUI.
    """

    def __init__(self, control: Control, sink: ProgressSink, *, resumes: bool) -> None:
        """
        Args:
            resumes: whether steps are done already, so that what is pressed before the next one has something to show.
        """
        self._control = control
        self._sink = sink
        self._resumes = resumes
        self._phase = _BEFORE
        self._lock = threading.Lock()
        self._pressed_at: dict[str, float] = {}
        self._promised: set[str] = set()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, presses are looked for."""
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(over,), name="finetune-presses", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            self._look()  # what was pressed in the last moment is answered, too

    @contextmanager
    def steps(self) -> Iterator[None]:
        """Inside, the run trains: what is pressed is done after a step."""
        self._phase = _STEPS
        try:
            yield
        finally:
            self._phase = _AFTER

    def stop_asked(self) -> bool:
        """See `Control`."""
        return self._control.stop_asked()

    def discard_asked(self) -> bool:
        """See `Control`."""
        return self._control.discard_asked()

    def load_asked(self) -> bool:
        """See `Control`."""
        return self._control.load_asked()

    def pause_asked(self) -> bool:
        """See `Control`."""
        return self._control.pause_asked()

    def preview_asked(self) -> bool:
        """See `Control`."""
        return self._take("preview")

    def save_asked(self) -> bool:
        """See `Control`."""
        return self._take("save")

    def _take(self, button: str) -> bool:
        """Whether a button was pressed, now or before; only while the run trains."""
        with self._lock:
            self._collect()
            if self._phase != _STEPS or self._pressed_at.pop(button, None) is None:
                return False
            self._promised.discard(button)
            return True

    def _collect(self) -> None:
        """Take over what was pressed; called under the lock, so that a press is never between two hands."""
        questions: dict[str, Callable[[], bool]] = {"save": self._control.save_asked, "preview": self._control.preview_asked}
        for button, asked in questions.items():
            if asked():
                self._pressed_at.setdefault(button, time.monotonic())

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(_POLL_S):
            self._look()

    def _look(self) -> None:
        with self._lock:
            self._collect()
            lines = [line for button in tuple(self._pressed_at) if (line := self._answer(button))]
        for line in lines:
            self._sink.say(line)

    def _answer(self, button: str) -> str:
        """What is to be said of a press that was not taken up; "" for nothing, or nothing yet."""
        if self._phase == _AFTER or not (self._phase == _STEPS or self._resumes):
            del self._pressed_at[button]
            self._promised.discard(button)
            return (_ENDED if self._phase == _AFTER else _NOTHING_YET)[button]
        if button in self._promised or (self._phase == _STEPS and time.monotonic() - self._pressed_at[button] < _PATIENCE_S):
            return ""
        self._promised.add(button)
        return (_NOT_RESUMED if self._phase == _BEFORE else _NEXT_STEP)[button]
