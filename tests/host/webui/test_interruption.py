"""An image of ours is interrupted as soon as its request asks for it, and nobody else's is."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from lib_finetune.errors import PictureInterruptedError
from lib_finetune.host.webui.host import WebuiHost
from lib_finetune.ports.pictures import PictureRequest
from tests.host.webui.stub_webui import StubWebui

STEPS, STEP_S = 150, 0.05


def sample_slowly(webui: StubWebui) -> None:
    """As a sampler: a step at a time, until the WebUI is interrupted."""

    def during() -> None:
        state = webui.shared.state
        for step in range(STEPS):
            if state.interrupted or state.skipped:
                return
            state.sampling_step, state.sampling_steps = step, STEPS
            time.sleep(STEP_S)

    webui.during_picture = during


def request(**changes: Any) -> PictureRequest:
    return PictureRequest("a cat", steps=STEPS, **changes)


def test_it_ends_at_the_next_step_and_shows_how_far_it_is(host: WebuiHost, webui: StubWebui) -> None:
    sample_slowly(webui)
    asked, steps = threading.Event(), []
    threading.Timer(0.4, asked.set).start()
    began = time.monotonic()
    host.remember()
    with pytest.raises(PictureInterruptedError):
        host.pictures.make_batch(request(interrupt_asked=asked.is_set, on_step=lambda done, total: steps.append((done, total))), 16)
    assert time.monotonic() - began < 2.0
    assert steps[0] == (0, STEPS) and steps == sorted(steps) and steps[-1][0] > 2
    state = webui.shared.state
    assert not state.interrupted and state.job == "" and host.restoration().differences == ()
    assert webui.lock.acquire(blocking=False) and not [thread for thread in threading.enumerate() if thread.name == "finetune-interrupt"]


def test_a_request_that_asks_for_it_from_the_start_paints_nothing(host: WebuiHost, webui: StubWebui) -> None:
    seen: list[bool] = []
    webui.during_picture = lambda: seen.append(webui.shared.state.interrupted)
    with pytest.raises(PictureInterruptedError):
        host.pictures.make(request(interrupt_asked=lambda: True))
    assert seen == [True] and not webui.shared.state.interrupted


@pytest.mark.parametrize("flag", ["interrupted", "skipped"])
def test_what_the_person_interrupts_is_no_picture(host: WebuiHost, webui: StubWebui, flag: str) -> None:
    webui.during_picture = lambda: setattr(webui.shared.state, flag, True)
    with pytest.raises(PictureInterruptedError):
        host.pictures.make(request())
    assert not getattr(webui.shared.state, flag)


@pytest.mark.parametrize("before", [False, True])
def test_the_persons_interrupt_of_before_is_put_back(host: WebuiHost, webui: StubWebui, before: bool) -> None:
    webui.shared.state.interrupted = before
    host.pictures.make(request())
    assert webui.shared.state.interrupted is before


def test_while_the_person_has_the_webui_the_picture_is_given_up_and_theirs_goes_on(host: WebuiHost, webui: StubWebui) -> None:
    webui.lock.acquire()
    asked = threading.Event()
    threading.Timer(0.2, asked.set).start()
    began = time.monotonic()
    with pytest.raises(PictureInterruptedError):
        host.pictures.make(request(interrupt_asked=asked.is_set))
    assert time.monotonic() - began < 2.0 and not webui.shared.state.interrupted and not webui.made
    webui.lock.release()
    host.pictures.make(request())
    assert len(webui.made) == 1
