"""The turn: the WebUI's queue lock, taken for a while and handed over to whoever waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lib_finetune.errors import PictureInterruptedError

_HANDOVER_S = 1.0
_POLL_S = 0.0005
_LOOK_S = 0.2
_PAUSE_S = 0.005


class Turn:
    """The right to use the model, one thread at a time (`modules.call_queue.queue_lock`)."""

    def __init__(self, lock: Any) -> None:
        """
        Args:
            lock: a FIFOLock; one of another make works too, with less certain fairness.
        """
        self._lock = lock
        self._owner: int | None = None
        self._handed_over = False

    @contextmanager
    def held(self, give_up: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Wait for the turn, hold it, and hand it over at the end in every case.

        Args:
            give_up: asked during the wait for the turn.

        Raises:
            PictureInterruptedError: the wait was given up.
            RuntimeError: this thread holds it already (the lock is not re-entrant: waiting would never end).
        """
        if self._owner == threading.get_ident():
            raise RuntimeError("The WebUI's turn is already held by this thread.")
        self._acquire(give_up)
        self._owner = threading.get_ident()
        try:
            yield
        finally:
            self._owner = None
            self._handed_over = self._release()

    def waited_for(self) -> bool:
        """Whether a thread waits; True for another kind of lock, which does not tell."""
        members = self._members()
        return members is None or bool(members[2])

    def pause(self) -> None:
        """Let a request that came just now get its turn; returns at once when `held` ended with a hand-over."""
        if not self._handed_over:
            time.sleep(_PAUSE_S)

    def _members(self) -> tuple[Any, Any, Any] | None:
        """The inner lock, the plain lock and the waiting events of a FIFOLock; None for another kind of lock."""
        members = tuple(getattr(self._lock, name, None) for name in ("_inner_lock", "_lock", "_pending_threads"))
        return None if None in members else (members[0], members[1], members[2])

    def _acquire(self, give_up: Callable[[], bool]) -> None:
        """Queue up behind all waiting threads.

        FIFOLock.acquire itself takes a lock that is free for the moment between its release and the waking of the thread
        it was released for. So a free lock is looked at twice, and a busy one is queued for.
        """
        members = self._members()
        if members is None:
            self._lock.acquire()
            return
        inner, plain, waiting = members
        with inner:
            free = not plain.locked() and not waiting
        if free:
            time.sleep(_POLL_S * 2)
        with inner:
            if not waiting and plain.acquire(False):
                return
            turn = threading.Event()
            waiting.append(turn)
        while not turn.wait(_LOOK_S):
            if give_up():
                with inner:
                    if turn in waiting:  # otherwise the lock has just been handed to us, and must be taken so that the queue moves on
                        waiting.remove(turn)
                        raise PictureInterruptedError(
                            "The image was not started: the WebUI was busy with other work until Stop was pressed."
                        )
        plain.acquire()

    def _release(self) -> bool:
        """Release the lock; when threads wait, return only after the first of them has it.

        FIFOLock.release wakes the first waiter but leaves the lock free until that thread runs, and any thread that asks
        in between gets it first, ours too. Newcomers have to pass the inner lock, so it is kept until the waiter is in;
        the waiter itself does not need it to enter.
        """
        members = self._members()
        if members is None:
            self._lock.release()
            return False
        inner, plain, waiting = members
        with inner:
            first = waiting.popleft() if waiting else None
            plain.release()
            if first is None:
                return False
            first.set()
            until = time.monotonic() + _HANDOVER_S
            while not plain.locked() and time.monotonic() < until:
                time.sleep(_POLL_S)
        return True
