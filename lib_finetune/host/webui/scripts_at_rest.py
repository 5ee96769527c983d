"""The WebUI's scripts at rest: an image of ours asks nothing of a script, but runs it, so that it can remove its own leftovers.

Without scripts, extensions would not know of our image, and their changes to modules, samplers and callbacks from the person's last image would stay.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

import lib_finetune
from lib_finetune.errors import HostError
from lib_finetune.host.webui.modules import webui

_WAIT_S, _POLL_S = 60.0, 0.1
_SETTING = "setting_"
_ON = re.compile(r"\b(enabled?|activ(e|ated?)|on)\b|启用|啟用|开启|有効", re.IGNORECASE)
_PASSED_THROUGH = re.compile(r"network_\w+_forward")
"""Functions of the Lora extension through which every layer's forward goes, so that they stand in the traceback of other extensions' errors."""


def put_to_rest(p: Any) -> None:
    """Give a request the scripts of txt2img, each with the default value of every control, as the WebUI's own API does it.

    Raises:
        HostError: the WebUI takes too long to build its page (after Reload UI).
    """
    runner = _awaited_runner()
    if runner is None:
        return
    p.is_api = True
    p.scripts = runner
    p.script_args = tuple(_defaults(runner))


def switched_on() -> list[str]:
    """A sentence for each extension that takes part in every image, because its default is to be active."""
    runner, sentences = webui("scripts").scripts_txt2img, []
    for script in runner.alwayson_scripts if runner is not None and _is_ready(runner) else ():
        on = [label for label, value in _controls(script) if value is True and _switches_on(label, script)]
        if on:
            name = _extension_of(script.filename or "") or _title(script)
            sentences.append(f"{name} is switched on by default ({on[0]}): it has a part in previews and class images too.")
    return sentences


def culprit(error: BaseException) -> str | None:
    """The folder of the last extension in the error's traceback; None without any."""
    extension = None
    for file, function in _frames(error.__traceback__):
        name = _extension_of(file)
        if name and not (name == "Lora" and _PASSED_THROUGH.fullmatch(function)):
            extension = name
    return extension


def _awaited_runner() -> Any | None:
    """The scripts of txt2img; None if there are none.

    While the WebUI builds its page anew, they have no controls yet. It does so without taking the turn, so waiting helps.
    """
    scripts, until = webui("scripts"), time.monotonic() + _WAIT_S
    while True:
        runner = scripts.scripts_txt2img
        if runner is None or (not runner.scripts and not getattr(scripts, "scripts_data", ())):
            return None
        if _is_ready(runner):
            return runner
        if time.monotonic() > until:
            raise HostError("The WebUI is still building its page, so it cannot make an image yet: try again when the page is there.")
        time.sleep(_POLL_S)


def _is_ready(runner: Any) -> bool:
    return bool(runner.scripts) and all(script.args_to is not None for script in runner.scripts)


def _defaults(runner: Any) -> list[Any]:
    """One value for each control; the first chooses a script of the drop-down, and 0 chooses none."""
    values: list[Any] = [None] * max([1, *(script.args_to for script in runner.scripts)])
    values[0] = 0
    for script in runner.scripts:
        defaults = [value for _, value in _controls(script)]
        count = script.args_to - script.args_from
        values[script.args_from : script.args_to] = (defaults + [None] * count)[:count]
    return values


def _controls(script: Any) -> list[tuple[str, Any]]:
    """Label and default value of each control of a script.

    The value is what the extension's code says: the WebUI wrote it down before the person's saved defaults came over the controls.
    """
    if script.args_to == script.args_from:  # none, or the extension failed to make them
        return []
    info, controls = getattr(script, "api_info", None), getattr(script, "controls", None)
    if controls is None:
        controls = [] if info is not None else _fresh_controls(script)
    values = [getattr(control, "value", None) for control in controls]
    if info is not None and len(info.args) in (len(controls), script.args_to - script.args_from):
        values = [arg.value for arg in info.args]
    labelled = []
    for place, value in enumerate(values):
        control = controls[place] if place < len(controls) else None
        label = getattr(control, "label", None) or (info.args[place].label if info is not None else "")
        labelled.append((str(label or ""), _now(control, value() if callable(value) else value)))
    return labelled


def _fresh_controls(script: Any) -> list[Any]:
    """Controls made for their values alone, where the WebUI has kept none; its gradio wants a page around them."""
    gradio = getattr(webui("scripts"), "gr", None)
    with gradio.Blocks() if gradio is not None else nullcontext():
        return list(script.ui(script.is_img2img) or ())


def _now(control: Any, value: Any) -> Any:
    """The resting value of a control that stands for a setting: the present setting; the control's own value is from the last start."""
    name, settings = str(getattr(control, "elem_id", None) or ""), webui("shared").opts.data
    key = name.removeprefix(_SETTING)
    return settings[key] if name.startswith(_SETTING) and key in settings else value


def _switches_on(label: str, script: Any) -> bool:
    return bool(_ON.search(label)) or label.strip().lower() == _title(script).strip().lower()


def _title(script: Any) -> str:
    try:
        return str(script.title())
    except Exception:  # noqa: BLE001 - an extension's own code
        return type(script).__name__


def _frames(traceback: TracebackType | None) -> Iterator[tuple[str, str]]:
    while traceback is not None:
        code = traceback.tb_frame.f_code
        yield code.co_filename, code.co_name
        traceback = traceback.tb_next


def _extension_of(file: str) -> str | None:
    """The folder below `extensions` or `extensions-builtin` in which a file lies; not for our own."""
    path = Path(file).absolute()
    if path.is_relative_to(Path(lib_finetune.__file__).parents[1]):
        return None
    for root in _roots():
        if path.is_relative_to(root) and path != root:
            return path.relative_to(root).parts[0]
    return None


def _roots() -> list[Path]:
    paths = webui("paths")
    data = Path(paths.data_path)
    roots = [getattr(paths, "extensions_dir", data / "extensions"), getattr(paths, "extensions_builtin_dir", data / "extensions-builtin")]
    return [place for root in roots for place in dict.fromkeys([Path(root).absolute(), Path(root).resolve()])]
