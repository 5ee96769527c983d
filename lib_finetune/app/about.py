"""What a page says of the program, the checkpoint and the device before anything is asked for."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

from lib_finetune import __version__
from lib_finetune.errors import FinetuneError
from lib_finetune.ports.host import MemoryUse

if TYPE_CHECKING:
    from lib_finetune.ports.host import Host

_log = logging.getLogger(__name__)


def about(host: Host, lost: str = "") -> dict[str, Any]:
    """Version, checkpoint, device, memory, and why training cannot start, if so.

    Args:
        lost: `Jobs.lost`.
    """
    facts: dict[str, Any] = {"version": __version__, "device": str(host.device), "memory": dataclasses.asdict(memory_of(host))}
    reasons = [lost] if lost else []
    try:
        info = host.checkpoint()
        return {**facts, "checkpoint": info.name, "vae": info.vae, "refusals": [*reasons, *host.refusals()]}
    except FinetuneError as error:
        return {**facts, "checkpoint": None, "vae": None, "refusals": [*reasons, str(error)]}


def memory_of(host: Host) -> MemoryUse:
    """The host's memory; zeros where the device does not answer."""
    try:
        return host.memory()
    except RuntimeError as error:
        _log.debug("The device does not tell its memory: %s", error)
        return MemoryUse(0, 0, 0)
