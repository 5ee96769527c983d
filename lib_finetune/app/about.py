"""What a page says of the program, the checkpoint and the device before anything is asked for."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from lib_finetune import __version__
from lib_finetune.errors import FinetuneError

if TYPE_CHECKING:
    from lib_finetune.ports.host import Host


def about(host: Host) -> dict[str, Any]:
    """Version, checkpoint, device, memory, and why training cannot start, if so."""
    facts: dict[str, Any] = {"version": __version__, "device": str(host.device), "memory": dataclasses.asdict(host.memory())}
    try:
        info = host.checkpoint()
        return {**facts, "checkpoint": info.name, "vae": info.vae, "refusals": host.refusals()}
    except FinetuneError as error:
        return {**facts, "checkpoint": None, "vae": None, "refusals": [str(error)]}
