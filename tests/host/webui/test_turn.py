"""The turn: whoever waits gets it before we take it again."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable

import pytest
from stub_webui import FIFOLock

from lib_finetune.host.webui.turn import Turn


class Plain:
    """A plain lock that counts how often each thread let it go."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.releases: collections.Counter[int] = collections.Counter()
        self.acquire, self.locked = self._lock.acquire, self._lock.locked

    def release(self) -> None:
        self.releases[threading.get_ident()] += 1
        self._lock.release()


class Waiting(collections.deque):
    """Those that wait; keeps how many turns had ended when the last of them came.

    Turns end and waiters come under one inner lock, so the count is exact on a machine of any speed.
    """

    def __init__(self, ended: Callable[[], int]) -> None:
        super().__init__()
        self.ended, self.came = ended, {}

    def append(self, event: threading.Event) -> None:
        self.came[threading.get_ident()] = self.ended()
        super().append(event)


def test_twenty_requests_in_a_row_wait_no_longer_than_a_turn() -> None:
    lock, done = FIFOLock(), threading.Event()
    turn = Turn(lock)

    def train() -> None:
        while not done.is_set():
            with turn.held():
                time.sleep(0.02)
            turn.pause()

    trainer = threading.Thread(target=train)
    plain = Plain()
    lock._lock = plain
    lock._pending_threads = Waiting(lambda: plain.releases[trainer.ident])
    trainer.start()
    turns_waited = []
    for _ in range(20):
        time.sleep(0.003)
        lock._pending_threads.came.clear()
        with lock:
            ended = plain.releases[trainer.ident]
            turns_waited.append(ended - lock._pending_threads.came.get(threading.get_ident(), ended))
            time.sleep(0.002)
    done.set()
    trainer.join()
    assert max(turns_waited) == 1


def test_twenty_requests_at_once_all_go_before_our_next_turn() -> None:
    lock = FIFOLock()
    turn, order = Turn(lock), []

    def ask() -> None:
        with lock:
            order.append("request")

    with turn.held():
        threads = [threading.Thread(target=ask) for _ in range(20)]
        for thread in threads:
            thread.start()
        while len(lock._pending_threads) < 20:
            time.sleep(0.001)
    turn.pause()
    with turn.held():
        order.append("ours")
    for thread in threads:
        thread.join()
    assert order == ["request"] * 20 + ["ours"]


def test_pausing_is_short_and_left_out_after_a_hand_over(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    lock = FIFOLock()
    turn = Turn(lock)
    with turn.held():
        pass
    with monkeypatch.context() as patched:
        patched.setattr(time, "sleep", slept.append)
        turn.pause()
    assert len(slept) == 1 and slept[0] < 0.02
    with turn.held():
        thread = threading.Thread(target=lambda: (lock.acquire(), lock.release()))
        thread.start()
        while not lock._pending_threads:
            time.sleep(0.001)
    thread.join()
    with monkeypatch.context() as patched:
        patched.setattr(time, "sleep", slept.append)
        turn.pause()
    assert len(slept) == 1


def test_a_lock_of_another_make_works() -> None:
    lock = threading.Lock()
    with Turn(lock).held():
        assert lock.locked()
    assert not lock.locked()


def test_an_exception_hands_the_turn_over() -> None:
    lock, got = FIFOLock(), threading.Event()

    def fail() -> None:
        threading.Thread(target=lambda: (lock.acquire(), got.set(), lock.release())).start()
        while not lock._pending_threads:
            time.sleep(0.001)
        raise ValueError("of the job")

    with pytest.raises(ValueError, match="of the job"), Turn(lock).held():
        fail()
    assert got.wait(30)
