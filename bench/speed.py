"""Speed and memory: ``python -m bench speed lora|dreambooth|textual_inversion [--widths full|tiny] [--resolution 256] [--steps 8] [--base fp32|bf16]
[--rounds 2]``.

Random weights; no figure here says anything about images. A step is compared in CPU-seconds with a bare eager loop that has
the same adapters, weights or vectors and optimizer but no data, no turns and no reports, in one process, the two in alternation. The
loop encodes text only where the method trains through the text encoder in every step: for Textual Inversion.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from bench.webui.files import draw
from lib_finetune.assembly import automatic_settings, builder
from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.host.headless.host import HeadlessHost
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.random_weights import random_checkpoint, sd15_layout, tiny_layout
from lib_finetune.ports.checkpoint import CheckpointInfo
from lib_finetune.ports.events import StepReport
from lib_finetune.runs.runner import Runner

GFLOP_256 = {"lora": 361.0, "dreambooth": 537.0}  # a step of SD1.5 at 256 px, one image: measuring.md
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Clock:
    """A progress sink that notes when things happen; also the control, which asks for nothing."""

    def __init__(self) -> None:
        self.marks: list[tuple[str, float, float]] = []
        self.lines: list[str] = []

    def mark(self, what: str) -> None:
        """Note wall and CPU time."""
        self.marks.append((what, time.perf_counter(), time.process_time()))

    def stage(self, name: str, done: int = 0, total: int = 0) -> None:
        """See `ProgressSink`."""
        if name != "cache" or done == 0:
            self.mark(name)

    def steps(self, report: StepReport) -> None:
        """See `ProgressSink`."""
        self.mark(f"steps {len(report.losses)}")

    def say(self, message: str) -> None:
        """See `ProgressSink`."""
        self.lines.append(message)

    def stop_asked(self) -> bool:
        """See `Control`."""
        return False

    discard_asked = load_asked = pause_asked = preview_asked = save_asked = stop_asked

    def ignore(self, *_: object) -> None:
        """See `ProgressSink`: no clock is needed."""

    figure = previewed = points = ignore

    def per_step(self) -> list[float]:
        """CPU-seconds of a step, the first report left out."""
        found = []
        for (_, _, before), (name, _, after) in zip(self.marks, self.marks[1:], strict=False):
            if name.startswith("steps"):
                found.append((after - before) / int(name.split()[1]))
        return found[1:]

    def wall(self, first: str, last: str) -> float:
        """Wall seconds from the first mark of one name to the first of another behind it."""
        start = next(mark[1] for mark in self.marks if mark[0].startswith(first))
        return next(mark[1] for mark in self.marks if mark[0].startswith(last) and mark[1] >= start) - start


class TimedHost(HeadlessHost):
    """Notes how long the digest before the run takes."""

    remember_s = 0.0

    def remember(self) -> Sequence[str]:
        """See `HostWeights.remember`."""
        start = time.perf_counter()
        messages = super().remember()
        self.remember_s = time.perf_counter() - start
        return messages


def bare_loop(host: HeadlessHost, settings: Settings, steps: int) -> list[float]:
    """CPU-seconds of each step of the smallest loop that trains the same adapters; the first step is left out."""
    side = settings.data.resolution // 8
    with host.lease() as lease:
        model: Any = BorrowedModel(host.held.layout)
        with model.bound(lease.tensors):
            if settings.method == "lora":
                adapter = builder.adapter_of(settings, model)
                parameters = [*adapter.parameters("unet").values(), *adapter.parameters("text").values()]
            elif settings.method == "dreambooth":
                parameters = list(model.own(("unet",), torch.float32, lease.device)["unet"].values())
            else:
                parameters = [torch.nn.Parameter(torch.randn(settings.embedding.vectors, host.held.layout.text["hidden_size"]) / 50)]
            optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
            dtype = model.unet.conv_in.weight.dtype
            cond = torch.randn(1, 77, host.held.layout.text["hidden_size"], dtype=dtype)
            noisy, noise = torch.randn(1, 4, side, side, dtype=dtype), torch.randn(1, 4, side, side)
            found = []
            for _ in range(steps):
                start = time.process_time()
                if settings.method == "textual_inversion":
                    cond = _encoded(model, parameters[0])
                loss = (model.unet(noisy, torch.tensor([500]), cond).sample.float() - noise).square().mean()
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                found.append(time.process_time() - start)
    return found[1:]


def _encoded(model: Any, vectors: torch.Tensor) -> torch.Tensor:
    """Conditioning of a caption in which the vectors stand behind the first token."""

    def placed(_module: Any, _given: Any, output: torch.Tensor) -> torch.Tensor:
        return torch.cat([output[:, :1], vectors[None].to(output.dtype), output[:, 1 + len(vectors) :]], dim=1)

    handle = model.text.embeddings.token_embedding.register_forward_hook(placed)
    try:
        found: torch.Tensor = model.text(input_ids=torch.zeros(1, 77, dtype=torch.long)).last_hidden_state
    finally:
        handle.remove()
    return found


def matrix_rate() -> float:
    """GFLOP per CPU-second of a large float32 product."""
    left, right = torch.randn(2048, 2048), torch.randn(2048, 2048)
    left @ right
    start = time.process_time()
    for _ in range(3):
        left @ right
    return 3 * 2 * 2048**3 / 1e9 / (time.process_time() - start)


def measured(options: argparse.Namespace) -> dict[str, float | str]:
    """Measure a training."""
    layout = sd15_layout() if options.widths == "full" else tiny_layout()
    heads = layout.text["num_attention_heads"]
    tensors = random_checkpoint(layout, 0, _DTYPES[options.base])
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        host = TimedHost(tensors, CheckpointInfo("random", None, None, None, None), root, heads)
        del tensors
        pairs = {
            "method": options.what,
            "name": "zxqbench",
            "data.caption_dropout": "0",
            "data.images": str(draw(root / "pictures", 2, options.resolution)),
            "data.trigger": "zxq",
            "data.resolution": str(options.resolution),
            "training.steps": str(options.steps),
            "network.text_encoder": options.text_encoder,
            "tuning.text_encoder_until": "0",
            "tuning.weights": "fp32",
            "tuning.in_backward": "off",
            "optimizer.name": "adamw",
            "objective.prior": "off",
            "preview.enabled": "false",
            "saving.overwrite": "true",
        }
        settings = automatic_settings.resolved(codec.with_values(Settings(), pairs.items()), 2, 1)[0]
        clocks = []
        bare: list[float] = []
        for _ in range(options.rounds):  # the second run finds latents cached and libraries imported
            clocks.append(Clock())
            clocks[-1].mark("start")
            Runner(settings, host, root / "run", clocks[-1], clocks[-1]).execute()
            gc.collect()  # a whole model may have been trained, and the loop needs the room
            bare += bare_loop(host, settings, options.steps // 2 + 1)
        ours = statistics.median(seconds for clock in clocks for seconds in clock.per_step())
        rate, work = matrix_rate(), GFLOP_256.get(options.what)
        floor = work and work * (options.resolution / 256) ** 2 / rate
        return {
            "CPU-seconds a step": round(ours, 2),
            "bare loop": round(statistics.median(bare), 2),
            "ratio": round(ours / statistics.median(bare), 3),
            "times the FLOP floor (full widths)": round(ours / floor, 2) if floor and options.widths == "full" else "-",
            "start to first step, warm, s": round(clocks[-1].wall("start", "train"), 2),
            "of which the digest, s": round(host.remember_s, 2),
            "last step to file, s": round(clocks[-1].wall("save", "verify"), 2),
            "digest and give back, s": round(float(host.restoration().seconds), 2),
            "peak RSS, GiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
            "model, GiB": round(size / 2**30, 2),
        }


def main(arguments: Sequence[str]) -> int:
    """Print a line per figure."""
    parser = argparse.ArgumentParser(prog="python -m bench speed")
    parser.add_argument("what", choices=("lora", "dreambooth", "textual_inversion"))
    parser.add_argument("--widths", choices=("full", "tiny"), default="full")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2, help="one where the memory of the first run does not come back to the system")
    parser.add_argument("--base", choices=tuple(_DTYPES), default="fp32")
    parser.add_argument("--text-encoder", choices=("true", "false"), default="false")
    for name, value in measured(parser.parse_args(arguments)).items():
        print(f"{name:40} {value}")
    return 0
