"""Memory as each system tells it: torch 2.1 with a card that has no number, Linux, Windows, macOS."""

import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from lib_finetune.host import memory

GIB = 1 << 30


class Cuda21:
    """`torch.cuda` of torch 2.1.2 with two cards of which the second is the current one."""

    free, total, reserved, allocated, peak = (3 * GIB, 5 * GIB), (8 * GIB, 12 * GIB), (0, 2 * GIB), (0, GIB), (0, 4 * GIB)

    def __init__(self, patch):
        self.reset = []
        given = {
            "current_device": lambda: 1,
            "mem_get_info": lambda device=None: (self.free[self.strict(device)], self.total[self.strict(device)]),
            "memory_reserved": lambda device=None: self.reserved[self.lenient(device)],
            "memory_allocated": lambda device=None: self.allocated[self.lenient(device)],
            "max_memory_reserved": lambda device=None: self.peak[self.lenient(device)],
            "reset_peak_memory_stats": lambda device=None: self.reset.append(self.lenient(device)),
        }
        for name, function in given.items():
            patch.setattr(torch.cuda, name, function)

    def lenient(self, device):
        """``_get_device_index(device, optional=True)``."""
        number = device if isinstance(device, int) or device is None else torch.device(device).index
        return 1 if number is None else number

    def strict(self, device):
        """``mem_get_info`` calls ``_get_device_index(device)``, which is not optional."""
        if device is not None and not isinstance(device, int) and torch.device(device).index is None:
            raise ValueError(f"Expected a torch.device with a specified index or an integer, but got:{device}")
        return self.lenient(device)


@pytest.mark.parametrize(("device", "card"), [("cuda", 1), ("cuda:0", 0), ("cuda:1", 1)])
def test_a_card_tells_its_memory_with_torch_2_1_too(monkeypatch, device, card):
    cuda = Cuda21(monkeypatch)
    found = memory.use(torch.device(device))
    assert (found.now, found.peak, found.total) == (cuda.reserved[card], cuda.peak[card], cuda.total[card])
    assert found.free == cuda.free[card] + cuda.reserved[card] - cuda.allocated[card] and found.ram > 0
    memory.reset_peak(torch.device(device))
    assert cuda.reset == [card]


def system(patch, platform, rss=GIB, **more):
    """A process on another system, which has no /proc."""
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=rss, **more))
    patch.setattr(psutil, "Process", lambda *_: process)
    patch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=16 * GIB, available=5 * GIB))
    patch.setattr(sys, "platform", platform)
    patch.setattr(memory, "_STATUS", Path("/not-there"), raising=False)


def use():
    return memory.use(torch.device("cpu"))


def test_on_windows_the_peak_is_that_of_the_working_set(monkeypatch):
    system(monkeypatch, "win32", peak_wset=3 * GIB)
    monkeypatch.setitem(sys.modules, "resource", None)  # which Windows does not have
    found = use()
    assert (found.now, found.peak, found.total, found.free, found.ram) == (GIB, 3 * GIB, 16 * GIB, 5 * GIB, 5 * GIB)


@pytest.mark.parametrize(("platform", "unit"), [("darwin", 1), ("freebsd14", 1024), ("linux", 1024)])
def test_where_no_other_way_is_the_peak_is_that_of_the_resources_used(monkeypatch, platform, unit):
    import resource

    system(monkeypatch, platform)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=2 * GIB // unit))
    found = use()
    assert (found.now, found.peak, found.total, found.free) == (GIB, 2 * GIB, 16 * GIB, 5 * GIB)


def test_the_peak_is_never_below_what_is_in_use(monkeypatch):
    import resource

    system(monkeypatch, "linux")
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=0))  # as some containers answer
    assert use().peak == GIB


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_on_linux_the_peak_is_the_high_water_mark(tmp_path, monkeypatch):
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t 3145728 kB\nVmRSS:\t 1024 kB\n")
    system(monkeypatch, "linux")
    monkeypatch.setattr(memory, "_STATUS", status, raising=False)
    assert use().peak == 3 * GIB


def test_the_real_system_answers():
    found = use()
    assert 0 < found.now <= found.peak and 0 < found.free <= found.total


@pytest.mark.parametrize(
    "error", [psutil.AccessDenied(1), PermissionError("/proc/meminfo"), FileNotFoundError("/proc/meminfo"), ValueError()]
)
def test_a_system_that_does_not_tell_is_taken_for_one_of_unknown_size(monkeypatch, error):
    def refuse(*_):
        raise error

    monkeypatch.setattr(psutil, "Process", refuse)
    monkeypatch.setattr(psutil, "virtual_memory", refuse)
    found = use()
    assert (found.now, found.total, found.free) == (0, 0, 0)


def test_without_psutil_nothing_breaks(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    found = use()
    assert (found.now, found.total, found.free) == (0, 0, 0)
