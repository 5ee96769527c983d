"""The person's scripts at rest: as the WebUI's own API asks for a picture when nothing is switched on.

A picture without scripts runs no extension's ``process``, but what an extension put on modules, samplers or callbacks in the
person's last picture stays on. With every script's own defaults, each puts its own things in order.
Reference: ``modules/api/api.py`` (``init_default_script_args``) and ``modules/scripts.py`` of the WebUI 1.10.1.
"""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any

from lib_finetune.host.webui.modules import webui

_log = logging.getLogger(__name__)
_SWITCHES = ("enable", "enabled", "active", "activate", "on")
_FOLDERS = ("extensions", "extensions-builtin")


def put_at_rest(p: Any) -> list[str]:
    """Give a request all scripts of txt2img with the default of each control; returns the names of those that default to on.

    Does nothing where the WebUI has no scripts yet.
    """
    runner = getattr(webui("scripts"), "scripts_txt2img", None)
    if runner is None or not getattr(runner, "alwayson_scripts", None):
        return []
    p.is_api = True
    p.scripts = runner
    p.script_args = tuple(_defaults(runner))
    return [_name(script) for script in runner.alwayson_scripts if _defaults_to_on(script)]


def _defaults(runner: Any) -> list[Any]:
    """The value of each control as its extension made it; no selectable script is chosen (0)."""
    values: list[Any] = [None] * max([1, *(int(getattr(script, "args_to", 0) or 0) for script in runner.scripts)])
    values[0] = 0
    for script in runner.scripts:
        controls = getattr(script, "controls", None) or ()
        first = int(getattr(script, "args_from", 0) or 0)
        for place, control in enumerate(controls):
            values[first + place] = _default(control)
    return values


def _default(control: Any) -> Any:
    """A control's value; settings that a page saved are not looked at, for the person's wish is not ours."""
    value = getattr(control, "value", None)
    return value() if callable(value) else value


def _defaults_to_on(script: Any) -> bool:
    """Whether an extension works on every picture unless it is switched off: its first switch is on by default."""
    for control in getattr(script, "controls", None) or ():
        value, label = _default(control), str(getattr(control, "label", "") or "").strip().lower()
        if isinstance(value, bool):
            return value and label.split(" ")[0] in _SWITCHES
    return False


def _name(script: Any) -> str:
    return extension_of(str(getattr(script, "filename", "") or "")) or str(getattr(script, "name", "") or "a script")


def extension_of(file: str) -> str:
    """The folder of the extension that a file belongs to, or ""."""
    parts = Path(file.replace("\\", "/")).parts
    for folder in _FOLDERS:
        if folder in parts[:-2]:
            return parts[len(parts) - 1 - parts[::-1].index(folder) + 1]
    return ""


def culprit(error: BaseException) -> str:
    """The extension whose file raised an error, or ""; the file deepest in the call counts."""
    names = [extension_of(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    return next((name for name in reversed(names) if name), "")
