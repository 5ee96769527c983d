"""Access to the WebUI's own modules, which exist only inside its process and are looked up when they are needed."""

from __future__ import annotations

import importlib
import sys
from typing import Any


def webui(name: str) -> Any:
    """The WebUI's module ``modules.<name>``; one look-up in `sys.modules` once it is loaded."""
    return importlib.import_module(f"modules.{name}")


def lora_extension() -> Any | None:
    """The `networks` module of the WebUI's own Lora extension, or None when the person has switched it off.

    Other programs have a module of this name, too, so its functions identify it.
    """
    networks = sys.modules.get("networks")
    is_ours = hasattr(networks, "network_apply_weights") and hasattr(networks, "loaded_networks")
    return networks if is_ours else None


def tagger_extension() -> Any | None:
    """The `tagger.utils` module of the WD14 tagger's extension, or None where it is not there.

    It is found where the extension's own script has loaded it; its folder is on the path only then. Its functions identify it.
    """
    utils = sys.modules.get("tagger.utils")
    is_tagger = hasattr(utils, "interrogators") and hasattr(utils, "refresh_interrogators")
    return utils if is_tagger else None
