"""Runs on the fake host, small enough for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open

from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.runs.result import Result
from lib_finetune.runs.runner import Runner
from tests.fakes.host import FakeHost, Recorder
from tests.fakes.pictures import draw

SMALL = {
    "name": "cat",
    "data.trigger": "zxq",
    "data.class_word": "cat",
    "data.resolution": "64",
    "network.rank": "2",
    "network.targets": "attention",
    "training.steps": "4",
    "preview.enabled": "false",
}


def settings(images: Path, changes: Mapping[str, str] | None = None) -> Settings:
    """Settings of a small run with changes by dotted path."""
    return codec.with_values(Settings(), {"data.images": str(images), **SMALL, **(changes or {})}.items())


class Bench:
    """A folder with images, and runs in it."""

    def __init__(self, root: Path, pictures: int = 3) -> None:
        self.root = root
        self.images = draw(root / "pictures", pictures)

    def host(self, where: str = "host", seed: int = 0) -> FakeHost:
        """A new host; the same ``where`` shares files with an earlier one."""
        return FakeHost(self.root / where, seed)

    def run(
        self,
        changes: Mapping[str, str] | None = None,
        *,
        host: FakeHost | None = None,
        folder: str = "run",
        recorder: Recorder | None = None,
    ) -> tuple[Result, Recorder, FakeHost]:
        """Run to the end; errors pass through."""
        host = host or self.host()
        recorder = recorder or Recorder()
        return Runner(settings(self.images, changes), host, host.paths.data / "runs" / folder, recorder, recorder).execute(), recorder, host


def tensors(file: Path | None) -> dict[str, torch.Tensor]:
    """Tensors of a result."""
    with safe_open(str(file), framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  not a dict


def metadata(file: Path | None) -> dict[str, str]:
    """Metadata of a result."""
    with safe_open(str(file), framework="pt") as opened:
        return dict(opened.metadata())


def same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
