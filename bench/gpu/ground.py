"""The ground of the checks: a device, random weights of SD1.5's structure on it, and trainings on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bench.gpu.report import NotHereError
from bench.speed import Clock
from bench.webui.files import draw
from lib_finetune.assembly import automatic_settings, builder, dataset
from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.host.headless.host import HeadlessHost
from lib_finetune.model.layout import Layout
from lib_finetune.model.random_weights import random_checkpoint, sd15_layout, small_layout
from lib_finetune.ports.checkpoint import CheckpointInfo
from lib_finetune.ports.events import StepReport
from lib_finetune.runs.runner import Runner

METHODS: dict[str, dict[str, str]] = {
    "lora": {"network.rank": "16", "optimizer.unet_rate": "1e-3"},
    "textual_inversion": {"name": "zxqtest", "embedding.vectors": "4"},
    "dreambooth": {"optimizer.unet_rate": "1e-4"},
}
"""Method → settings that differ from `_COMMON`."""
_COMMON = {
    "name": "gpu-check",
    "data.trigger": "zxq",
    "data.class_word": "cat",
    "data.caption_dropout": "0",
    "objective.prior": "off",
    "preview.enabled": "false",
    "saving.overwrite": "true",
}


class Watch(Clock):
    """A `Clock` that keeps the losses, too."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.seconds: list[float] = []

    def steps(self, report: StepReport) -> None:
        """See `ProgressSink`."""
        super().steps(report)
        self.losses += report.losses
        self.seconds += [report.seconds / len(report.losses)] * len(report.losses)


class Ground:
    """
    Attributes:
        device: on which is trained.
        root: a scratch folder.
        resolution_px: of the images.
        steps: of a training whose losses are looked at.
        full: whether the weights have SD1.5's widths.
    """

    def __init__(self, device: torch.device, root: Path, *, full: bool, resolution_px: int, steps: int) -> None:
        self.device, self.root, self.full, self.resolution_px, self.steps = device, root, full, resolution_px, steps
        self.layout: Layout = sd15_layout() if full else small_layout()
        self.images = draw(root / "images", 16, resolution_px)  # a whole batch of the largest
        self._runs = 0
        self._tensors: dict[str, torch.Tensor] = {}

    @property
    def on_cuda(self) -> bool:
        """Whether the device is an NVIDIA card (or what torch takes for one)."""
        return self.device.type == "cuda"

    def cuda_only(self) -> None:
        """
        Raises:
            NotHereError: the device is another.
        """
        if not self.on_cuda:
            raise NotHereError("needs CUDA")

    def host(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> HeadlessHost:
        """A host on copies of the same random weights; fp16 on CUDA and fp32 elsewhere unless ``dtype`` says otherwise."""
        device = device or self.device
        self._tensors = self._tensors or random_checkpoint(self.layout, 0)
        wanted = dtype or (torch.float16 if device.type == "cuda" else torch.float32)
        tensors = {name: tensor.to(device, wanted, copy=True) for name, tensor in self._tensors.items()}
        base = self.root / "base.safetensors"
        if not base.is_file():
            from safetensors.torch import save_file

            save_file({name: tensor.half() for name, tensor in self._tensors.items()}, base)
        info = CheckpointInfo("random", base, "0" * 64, "0" * 10, None, "epsilon")
        return HeadlessHost(tensors, info, self.root, self.layout.text["num_attention_heads"])

    def settings(self, method: str, steps: int, changes: Mapping[str, str] | None = None) -> Settings:
        """Settings of a training on the drawn images, with every automatic value filled in but those that depend on the card's room."""
        pairs = {
            "method": method,
            "data.images": str(self.images),
            "data.resolution": str(self.resolution_px),
            "training.steps": str(steps),
            **_COMMON,
            **METHODS[method],
            **(changes or {}),
        }
        return codec.with_values(Settings(), pairs.items())

    def train(
        self, method: str, steps: int, changes: Mapping[str, str] | None = None, host: HeadlessHost | None = None
    ) -> tuple[Watch, Path]:
        """Train as a person does; returns what was seen and the file.

        Raises:
            AssertionError: no file, a loss that is no number, or a host that is not as it was.
            FinetuneError: the training failed.
        """
        self._runs += 1
        watch, host = Watch(), host or self.host()
        result = Runner(self.settings(method, steps, changes), host, self.root / f"run-{self._runs}", watch, watch).execute()
        assert result.file is not None, f"no file: {result.outcome}"
        assert len(watch.losses) == steps, f"{len(watch.losses)} losses of {steps} steps"
        wrong = [loss for loss in watch.losses if not abs(loss) < float("inf")]
        assert not wrong, f"{len(wrong)} of {steps} losses are no numbers"
        assert not result.restoration.differences, result.restoration.line
        return watch, result.file

    @contextmanager
    def bound(
        self,
        method: str,
        changes: Mapping[str, str] | None = None,
        host: HeadlessHost | None = None,
        on_swapped: Callable[..., None] = lambda *_figures: None,
    ) -> Iterator[Any]:
        """The trainer of a run, whose steps the caller takes one by one with `step`.

        Args:
            on_swapped: called when the trained model and the host's were exchanged.
        """
        host = host or self.host()
        settings = automatic_settings.resolved(self.settings(method, 1000, changes), len(list(self.images.iterdir())), 1)[0]
        assembly = builder.bind(
            settings, dataset.find(settings), host, host.checkpoint(), self.root / "cache", lambda _changed: None, lambda _report: None
        )
        if assembly.swap:
            assembly.swap.on_swapped = on_swapped
        assembly.trainer.turns.use(assembly.needs, assembly.swap)
        try:
            yield assembly.trainer
        finally:
            assembly.trainer.turns.close()
            assembly.close()

    def step(self, trainer: Any) -> None:
        """One step of a trainer, data and all."""
        batches = [trainer.batches(micro_step) for micro_step in trainer._micro_steps()]
        with trainer.turns.step():
            trainer._one_step(trainer.plan.rates(trainer.step), batches)
        trainer.step += 1

    def wait(self) -> None:
        """Until the device has done what it was asked."""
        if self.on_cuda:
            torch.cuda.synchronize(self.device)

    def seconds(self, action: Any, times: int) -> float:
        """Wall seconds of one of so many calls, the device's work included; two calls before them are left out."""
        for _ in range(2):
            action()
        self.wait()
        begin = time.perf_counter()
        for _ in range(times):
            action()
        self.wait()
        return (time.perf_counter() - begin) / times
