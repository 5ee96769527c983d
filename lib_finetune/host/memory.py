"""Memory of the device: what torch has reserved on CUDA, the resident set of the process on the CPU."""

from __future__ import annotations

from pathlib import Path

import torch

from lib_finetune.ports.host import MemoryUse


def use(device: torch.device) -> MemoryUse:
    """Bytes in use now, at the peak since `reset_peak` (on the CPU: of the process), in all, and free; 0 where the system does not tell."""
    if device.type == "cuda":
        unasked, total = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.memory_reserved(device)
        free = unasked + reserved - torch.cuda.memory_allocated(device)
        return MemoryUse(reserved, torch.cuda.max_memory_reserved(device), total, free, _available())
    available = _available()
    return MemoryUse(_status("VmRSS"), _status("VmHWM"), _meminfo("MemTotal"), available, available)


def reset_peak(device: torch.device) -> None:
    """Start a new peak on CUDA; a process' own peak cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _status(field: str) -> int:
    """A field of Linux' /proc/self/status in bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return _psutil()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), 0)


def _available() -> int:
    """Main memory that can be had without swapping."""
    found = _meminfo("MemAvailable")
    if found:
        return found
    try:
        import psutil
    except ImportError:
        return 0
    return int(psutil.virtual_memory().available)


def _psutil() -> int:
    try:
        import psutil
    except ImportError:
        return 0
    return int(psutil.Process().memory_info().rss)


def _meminfo(field: str) -> int:
    """A field of Linux' /proc/meminfo in bytes."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), 0)
