"""Programs that load the WebUI's extensions and hold their model otherwise: seen at the start, and refused in one sentence."""

from __future__ import annotations

import importlib.util
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

GRADIO = "3.41"
"""Of the WebUI 1.10.1 and its branch dev."""
_WAY_OUT = (
    "Finetune cannot train inside it. Train without it: run `python quickstart.py ui` in Finetune's folder, or use the command line. The LoRA "
    "or embedding that you get works here."
)


def refusal(root: Path | None = None) -> str:
    """Why nothing can be trained in the program that runs; "" in the AUTOMATIC1111 WebUI.

    Args:
        root: the program's folder; without it, the one that the program's own module tells.
    """
    name = _name(root or _root())
    return (
        f"This program is {name} and not the AUTOMATIC1111 WebUI: it keeps its model in memory in another way. {_WAY_OUT}" if name else ""
    )


def refuses_model(model: Any) -> str:
    """Why a loaded model cannot be borrowed, where it is one of another program's; else ""."""
    if hasattr(model, "forge_objects"):
        return f"The loaded model is one of Forge. {_WAY_OUT}"
    return ""


def _name(root: Path | None) -> str:
    if _lies_in("modules_forge", root):
        return "Forge or one of its family"
    if _lies_in("backend", root):
        return "Forge"
    if root is not None and (root / "modules" / "sd_hijack_accelerate.py").is_file():
        return "SD.Next"
    version = _gradio()
    return f"one with gradio {version}" if version and not version.startswith(f"{GRADIO}.") else ""


def _lies_in(package: str, root: Path | None) -> bool:
    """Whether this package can be imported and is the program's own: others have packages of such names, too."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # a module that somebody put there without a specification
        return package in sys.modules and root is None
    if spec is None:
        return False
    places = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.origin else [])]
    return root is None or any(Path(place).resolve().is_relative_to(root.resolve()) for place in places)


def _root() -> Path | None:
    paths = sys.modules.get("modules.paths_internal") or sys.modules.get("modules.paths")
    folder = getattr(paths, "script_path", None)
    return Path(folder) if folder else None


def _gradio() -> str:
    try:
        return metadata.version("gradio")
    except metadata.PackageNotFoundError:
        return ""
