"""What the components and events of all panels have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gradio as gr

from lib_finetune.access import of_this_site

QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
"""Options of an event. Not through gradio's queue: a stop must not wait for somebody's images."""


def own(component: Any) -> Any:
    """Keep a component out of the WebUI's ui-config.json, whose stored values would override new defaults for ever."""
    component.do_not_save_to_config = True
    return component


def guarded(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler of an event that a page of another site cannot call; gradio's own route takes what any page sends.

    Raises:
        gr.Error: such a page asks.
    """

    @functools.wraps(handler)
    def checked(request: gr.Request, *values: Any) -> Any:
        headers = getattr(request.request, "headers", None) if request else None  # None: called by a test, or by gradio itself
        if headers is not None and not of_this_site(headers):
            raise gr.Error("Asked by a page of another site.")
        return handler(*values)

    del checked.__wrapped__  # gradio reads the signature, and would follow this to the handler's
    checked.__annotations__ = {"request": gr.Request}
    return checked
