"""The signals that ask this program to end: SIGTERM, SIGHUP, and SIGBREAK, which a console of Windows sends when its window is closed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lib_finetune.ports.null import NullControl

_NAMES = ("SIGTERM", "SIGHUP", "SIGBREAK")  # as far as the system has them


@contextmanager
def as_interrupt() -> Iterator[None]:
    """Inside, the first signal acts like Ctrl-C; later ones are ignored, so that they do not disturb the ending."""
    raised: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        raised.append(number)
        if len(raised) == 1:
            raise KeyboardInterrupt

    def pass_on(_number: int, _frame: object) -> None:
        signal.raise_signal(signal.SIGTERM)  # while a server runs, it ends in its own way on this one

    with _heard(("SIGTERM",), interrupt), _heard(_NAMES[1:], pass_on):
        yield


class EndingControl(NullControl):
    """Implements `runs.control.Control` for the command line: a signal or Ctrl-C ends the run after its step, with the state saved.

    A step that is torn apart would leave weights of which some have moved. Ctrl-C a second time ends at once.

    Attributes:
        ending: whether a signal came.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.ending = False

    def stop_asked(self) -> bool:
        """See `Control`."""
        return self.ending

    def discard_asked(self) -> bool:
        """See `Control`: the run resumes from the state."""
        return self.ending

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside, the signals are handled."""
        with _heard(("SIGINT", *_NAMES), self._heard):
            yield

    def _heard(self, number: int, _frame: object) -> None:
        if self.ending and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.ending:
            self.ending = True
            self._say("Ending after this step; the state is saved. Ctrl-C again ends at once.")


@contextmanager
def _heard(names: tuple[str, ...], handler: Callable[[int, object], None]) -> Iterator[None]:
    """Inside, ``handler`` takes the signals. Those that are switched off from outside (nohup) stay off; only the main thread may change any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [number for name in names if (number := getattr(signal, name, None)) is not None]
    before = {number: signal.signal(number, handler) for number in numbers if signal.getsignal(number) is not signal.SIG_IGN}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old if old is not None else signal.SIG_DFL)
