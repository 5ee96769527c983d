"""Memory of the device: what torch has reserved on CUDA, the resident set of the process on the CPU."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lib_finetune.ports.host import MemoryUse

_log = logging.getLogger(__name__)
_STATUS = Path("/proc/self/status")


def use(device: torch.device) -> MemoryUse:
    """Bytes in use now, at the peak since `reset_peak` (on the CPU: of the process), in all, and free; 0 where the system does not tell."""
    ram = _answer_of_psutil(lambda psutil: psutil.virtual_memory().available)
    if device.type == "cuda":
        card = _number(device)
        unasked, total = torch.cuda.mem_get_info(card)
        reserved = torch.cuda.memory_reserved(card)
        free = unasked + reserved - torch.cuda.memory_allocated(card)
        return MemoryUse(reserved, torch.cuda.max_memory_reserved(card), total, free, ram)
    now = _answer_of_psutil(lambda psutil: psutil.Process().memory_info().rss)
    return MemoryUse(now, max(now, _peak()), _answer_of_psutil(lambda psutil: psutil.virtual_memory().total), ram, ram)


def reset_peak(device: torch.device) -> None:
    """Start a new peak on CUDA; a process' own peak cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(_number(device))


def hand_over(device: torch.device, need: int) -> None:
    """Give the memory that torch keeps for later back to the driver if the driver has less than ``need`` bytes left for the next user.

    Other programs, and kernels that ask the driver themselves, cannot use what torch keeps; Windows' driver takes main memory instead
    of failing, which makes every step many times slower.
    """
    if device.type == "cuda" and torch.cuda.mem_get_info(_number(device))[0] < need:
        torch.cuda.empty_cache()


def let_go_of_all(device: torch.device) -> None:
    """Give all memory that torch keeps for later back to the driver."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _number(device: torch.device) -> int:
    """The device with its index: the WebUI's "cuda" has none, and `torch.cuda.mem_get_info` refuses that below torch 2.5."""
    return int(torch.cuda.current_device()) if device.index is None else device.index


def _answer_of_psutil(ask: Callable[[Any], int]) -> int:
    """An answer of psutil, or 0 where there is none: in some containers /proc is closed."""
    try:
        import psutil
    except ImportError:
        return 0
    try:
        return int(ask(psutil))
    except (psutil.Error, OSError, ValueError, AttributeError) as error:
        _log.debug("The system does not tell its memory: %r", error)
        return 0


def _peak() -> int:
    """The peak memory of the process, as this system tells it: Windows, Linux, others."""
    return _answer_of_psutil(lambda psutil: getattr(psutil.Process().memory_info(), "peak_wset", 0)) or _high_water_mark() or _most_used()


def _high_water_mark() -> int:
    """The peak from Linux' /proc/self/status."""
    if sys.platform != "linux":
        return 0
    try:
        lines = _STATUS.read_text().splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
    except (OSError, ValueError, IndexError):
        return 0


def _most_used() -> int:
    """The peak as POSIX counts resources: macOS in bytes, others in KiB."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
