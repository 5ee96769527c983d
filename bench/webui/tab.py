"""The tab without a browser: its buttons pressed through gradio's own HTTP interface, as the page does."""

from __future__ import annotations

from typing import Any

from bench.webui.webui import WebUI


class Tab:
    """Knows the components by their elem_id."""

    def __init__(self, webui: WebUI) -> None:
        self._webui = webui
        self.values: dict[str, Any] = {}

    def fill(self, **values: Any) -> None:
        """Fill fields for the presses to come: finetune_``name``=value."""
        self.values.update({f"finetune_{name}": value for name, value in values.items()})

    def press(self, button: str) -> str:
        """Press a button with what was filled in; returns the message above Train, if it has one."""
        config = self._webui.ask("/config")
        components = {part["id"]: part["props"] for part in config["components"]}
        pressed = next(place for place, props in components.items() if props.get("elem_id") == button)
        index = next(place for place, what in enumerate(config["dependencies"]) if _targets(what, pressed))
        given = [self._value(components[place]) for place in config["dependencies"][index]["inputs"]]
        answer = self._webui.ask("/run/predict", {"fn_index": index, "data": given, "session_hash": "driver"})
        return str((answer["data"] or [""])[0])

    def _value(self, props: dict[str, Any]) -> Any:
        return self.values.get(props.get("elem_id", ""), props.get("value"))


def _targets(dependency: dict[str, Any], component: int) -> bool:
    """Gradio 3.41 lists targets as numbers or as (number, event)."""
    found = [target[0] if isinstance(target, list) else target for target in dependency["targets"]]
    return component in found
