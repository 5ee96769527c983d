"""A host for tests: the headless host on a tiny model, with a turn that others can take and faults that can be planned."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from lib_finetune.host.headless.files import HeadlessFiles
from lib_finetune.host.headless.host import HeadlessHost
from lib_finetune.host.headless.pictures import HeadlessPictures
from lib_finetune.model import borrowed
from lib_finetune.model.random_weights import random_checkpoint, small_layout
from lib_finetune.ports.checkpoint import CheckpointInfo
from lib_finetune.ports.events import PreviewRow
from lib_finetune.ports.files import Card, Verification
from lib_finetune.ports.host import Restoration
from lib_finetune.ports.lease import Lease, TextTools
from lib_finetune.ports.pictures import PictureRequest


def _leave_meta_alone() -> None:
    """Half of the time that a view takes to be built goes into first values for tensors that hold none."""

    def spared(real: Any) -> Any:
        return lambda tensor, *args, **kwargs: tensor if tensor.is_meta else real(tensor, *args, **kwargs)

    for name in ("kaiming_uniform_", "uniform_", "normal_", "zeros_", "ones_", "constant_"):
        setattr(torch.nn.init, name, spared(getattr(torch.nn.init, name)))


def _build_once() -> None:
    """The empty modules of a layout are built once and then copied, which takes a quarter of the time."""
    real = borrowed._modules
    built: dict[str, bytes] = {}

    def copied(layout: Any) -> Any:
        key = repr(layout)
        if key not in built:
            built[key] = pickle.dumps(real(layout))
        return pickle.loads(built[key])

    borrowed._modules = copied


_leave_meta_alone()
_build_once()
_TINY: dict[int, dict[str, torch.Tensor]] = {}
_TOOLS: list[TextTools] = []
_MODULES: list[frozenset[str]] = []


def tiny_tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """A fresh copy of the tiny checkpoint."""
    if seed not in _TINY:
        _TINY[seed] = random_checkpoint(small_layout(), seed)
    return {name: tensor.clone() for name, tensor in _TINY[seed].items()}


def info(name: str = "tiny") -> CheckpointInfo:
    """What the host says of it."""
    return CheckpointInfo(name, None, "ab" * 32, "ab" * 5, None)


class _Files(HeadlessFiles):
    """Hands what it hears to the host."""

    def __init__(self, host: FakeHost) -> None:
        super().__init__(host.held)
        self._host = host

    def artifact_saved(self, kind: str, path: Path, card: Card) -> Verification:
        return self._host.saved(kind, path, card)

    def artifact_removed(self, kind: str, path: Path) -> None:
        assert not path.exists() and not self._host.lock.locked()
        self._host.removed.append(path)


class _Pictures(HeadlessPictures):
    """Has the host paint."""

    def __init__(self, host: FakeHost) -> None:
        super().__init__(host.held, host.text_tools)
        self._host = host

    def make_batch(self, request: PictureRequest, count: int) -> list[Image.Image]:
        return self._host.paint(request, count)


class FakeHost(HeadlessHost):
    """Attributes: ``faults`` maps a method's name to an exception raised at its n-th call; ``turns`` counts leases; ``queued``: somebody waits.

    A test's own host overrides `paint` (what `pictures` does) and `saved` (what `files.artifact_saved` does).
    """

    def __init__(self, root: Path, seed: int = 0) -> None:
        super().__init__(tiny_tensors(seed), info(), root, text_heads=2)
        if not _MODULES:
            _MODULES.append(self.held.kohya_modules)
        self.held.kohya_modules = _MODULES[0]  # one tiny layout for all tests
        self.files, self.pictures = _Files(self), _Pictures(self)
        self.lock = threading.Lock()
        self.turns = 0
        self.queued = False
        self.faults: dict[str, tuple[int, Exception]] = {}
        self.asked: list[PictureRequest] = []
        self.removed: list[Path] = []

    def text_tools(self) -> TextTools:
        if not _TOOLS:
            _TOOLS.append(super().text_tools())
        return _TOOLS[0]

    @contextmanager
    def lease(
        self, wanted: CheckpointInfo | None = None, parts: Iterable[str] = ("unet", "text", "vae"), *, alone: bool = False
    ) -> Iterator[Lease]:
        self._fault("lease")
        with self.lock, super().lease(wanted, parts, alone=alone) as lease:
            self.turns += 1
            yield lease

    def waiting(self) -> bool:
        return self.queued

    def restoration(self) -> Restoration:
        self._fault("restoration")
        return super().restoration()

    def saved(self, kind: str, path: Path, card: Card) -> Verification:
        self._fault("artifact_saved")
        return HeadlessFiles.artifact_saved(self.files, kind, path, card)

    def paint(self, request: PictureRequest, count: int) -> list[Image.Image]:
        self._fault("pictures")
        self.asked.append(request)
        return [Image.new("RGB", (request.width_px, request.height_px), (request.seed + n, 0, 0)) for n in range(count)]

    def load_other(self, name: str, seed: int = 1) -> None:
        """The person loads another checkpoint."""
        self.held.tensors, self.held.info = tiny_tensors(seed), info(name)

    def load_back(self, name: str = "tiny", seed: int = 0) -> None:
        """The person loads the first one again."""
        self.load_other(name, seed)

    def load(self, wanted: CheckpointInfo) -> None:
        self.load_back(wanted.name)

    def _fault(self, method: str) -> None:
        if method in self.faults:
            left, error = self.faults[method]
            self.faults[method] = (left - 1, error)
            if left <= 0:
                raise error


class Recorder:
    """A progress sink and control that remembers.

    ``stop_at`` asks to stop once so many steps are done. ``presses`` maps "preview" or "save" to the number of steps
    after which the button is pressed once.
    """

    def __init__(self, stop_at: int | None = None, discard: bool = False) -> None:
        self.lines: list[str] = []
        self.stages: list[str] = []
        self.losses: list[float] = []
        self.reports: list[Any] = []
        self.stop_at = stop_at
        self.discard = discard
        self.load = False
        self.polls = 0
        self.presses: dict[str, int] = {}
        self.figures: list[tuple[str, int, float]] = []
        self.rows: list[PreviewRow] = []
        self.kept: list[tuple[int, Any]] = []

    def stage(self, name: str, done: int = 0, total: int = 0) -> None:
        self.stages.append(name)

    def steps(self, report: Any) -> None:
        self.reports.append(report)
        self.losses += report.losses

    def say(self, message: str) -> None:
        self.lines.append(message)

    def stop_asked(self) -> bool:
        self.polls += self.stages[-1:] == ["train"]
        return self.stop_at is not None and self.polls > self.stop_at

    def discard_asked(self) -> bool:
        return self.discard

    def load_asked(self) -> bool:
        asked, self.load = self.load, False
        return asked

    def figure(self, name: str, step: int, value: float) -> None:
        self.figures.append((name, step, value))

    def previewed(self, row: PreviewRow) -> None:
        self.rows.append(row)

    def points(self, points: Any) -> None:
        self.kept = list(points)

    def pause_asked(self) -> bool:
        return False

    def preview_asked(self) -> bool:
        return self._pressed("preview")

    def save_asked(self) -> bool:
        return self._pressed("save")

    def _pressed(self, button: str) -> bool:
        """Asked once after each step; `polls` counts them."""
        if self.presses.get(button) != self.polls:
            return False
        del self.presses[button]
        return True
