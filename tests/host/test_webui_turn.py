"""The turn: whoever waits gets it before we take it again."""

from __future__ import annotations

import threading
import time

import pytest
from stub_webui import FIFOLock

from lib_finetune.host.webui_turn import Turn

TURN_S = 0.05


def train(turn: Turn, until: threading.Event) -> None:
    while not until.is_set():
        with turn.held():
            time.sleep(TURN_S)
        turn.pause()


def wait_of(lock: FIFOLock, work_s: float = 0.002) -> float:
    start = time.monotonic()
    with lock:
        waited = time.monotonic() - start
        time.sleep(work_s)
    return waited


def test_twenty_requests_in_a_row_wait_no_longer_than_a_turn() -> None:
    lock, done = FIFOLock(), threading.Event()
    trainer = threading.Thread(target=train, args=(Turn(lock), done))
    trainer.start()
    waits = []
    for _ in range(20):
        time.sleep(0.003)
        waits.append(wait_of(lock))
    done.set()
    trainer.join()
    print(f"longest wait {max(waits) * 1000:.0f} ms at turns of {TURN_S * 1000:.0f} ms")
    assert max(waits) < 2 * TURN_S


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


def test_pausing_with_nobody_waiting_is_short() -> None:
    turn = Turn(FIFOLock())
    with turn.held():
        pass
    start = time.monotonic()
    turn.pause()
    assert time.monotonic() - start < 0.05


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
    assert got.wait(1)
