"""The WebUI's Interrupt, pressed for an image of ours as soon as its request asks for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lib_finetune.host.webui.modules import webui
from lib_finetune.ports.pictures import PictureRequest

_POLL_S = 0.1


@contextmanager
def interruptible(request: PictureRequest) -> Iterator[None]:
    """Inside, the WebUI makes the image of a request, and is interrupted when that asks for it. Call under the turn, inside of
    what keeps the WebUI's progress: nobody else's image can be meant then, and the Interrupt is taken back with the rest.

    A thread looks, since samplers are many and have no common place to be asked in; the WebUI itself looks at its flag between all
    their steps.
    """
    over = threading.Event()
    _look(request)
    watcher = threading.Thread(target=_look_until, args=(request, over), name="finetune-interrupt", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def was_interrupted() -> bool:
    """Whether we or the person left the image unfinished."""
    state = webui("shared").state
    return bool(state.interrupted or state.skipped)


def _look_until(request: PictureRequest, over: threading.Event) -> None:
    while not over.wait(_POLL_S):
        _look(request)


def _look(request: PictureRequest) -> None:
    state = webui("shared").state
    request.on_step(min(state.sampling_step, request.steps), request.steps)
    if request.interrupt_asked():
        state.interrupted = True
