"""What the components and events of all panels have in common."""

from __future__ import annotations

from typing import Any

QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
"""Options of an event. Not through gradio's queue: a stop must not wait for somebody's pictures."""


def own(component: Any) -> Any:
    """Keep a component out of the WebUI's ui-config.json, whose stored values would override new defaults for ever."""
    component.do_not_save_to_config = True
    return component
