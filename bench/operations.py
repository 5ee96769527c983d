"""Operations of a training step, counted without a GPU: ``python -m bench operations [--rank 16] [--base bf16|fp32] [--precision bf16]``.

A step of a LoRA at SD1.5's structure, batch 1: forward and backward pass, clipping, the optimizer, the average. Widths are small, because
the count does not depend on them. Counted is what torch dispatches and a device would have to run: no views, and no memory that is only
reserved. What fused kernels do to a list of tensors counts once. The first steps are left out: they make the optimizer's state.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.webui.files import draw
from lib_finetune.assembly import automatic_settings, builder, dataset
from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.host.headless.host import HeadlessHost
from lib_finetune.model.layout import Layout
from lib_finetune.model.random_weights import random_checkpoint, sd15_layout
from lib_finetune.ports.checkpoint import CheckpointInfo

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_RESERVED = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided", "lift_fresh")
"""Operations that touch no number."""
_SHAPES = ("view", "_unsafe_view", "_reshape_alias", "detach", "alias", "t", "unsafe_split", "set_", "record_stream", "is_same_size")
"""Views that torch does not mark as such."""
_CASTS = ("_to_copy",)
_READS = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal")
"""Operations that make Python wait for a number of the device."""

ROWS: dict[str, dict[str, str]] = {
    "text encoder trained": {"network.text_encoder": "true"},
    "text cached": {"network.text_encoder": "false"},
    "text not trained, a word is": {"method": "textual_inversion"},
}
"""Name of a row → settings."""


@dataclass(frozen=True)
class Operations:
    """What one step dispatched.

    Attributes:
        total: operations that a device would run.
        casts: of them, copies to another type.
        scales: of them, products with a number that Python holds.
        reads: numbers of the device that Python waits for.
    """

    total: int
    casts: int
    scales: int
    reads: int
    names: Mapping[str, int]


class _Counter(TorchDispatchMode):
    """Counts operations by name while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()
        self.scales = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count it."""
        name = function._schema.name.partition("::")[2]
        if not (function.is_view or name in _RESERVED or name in _SHAPES):
            self.names[name] += 1
            self.scales += name in ("mul", "mul_") and any(isinstance(leaf, int | float) for leaf in tree_leaves(args))
        return function(*args, **(kwargs or {}))

    @property
    def counted(self) -> Operations:
        reads = sum(self.names[name] for name in _READS)
        return Operations(sum(self.names.values()), sum(self.names[name] for name in _CASTS), self.scales, reads, dict(self.names))


def small_widths() -> Layout:
    """SD1.5's structure at a tenth of its widths."""
    return sd15_layout(unet=(32, 64, 64, 64), vae=(32, 32, 32, 32), text=64, text_heads=4)


def counted(changes: Mapping[str, str], base: torch.dtype, layout: Layout | None = None, steps: int = 3) -> Operations:
    """The operations of the last of some steps.

    Args:
        changes: settings by dotted path.
        base: dtype of the model's weights.
        layout: `small_widths` when None.
    """
    layout = layout or small_widths()
    tensors = random_checkpoint(layout, 0, base)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        info = CheckpointInfo("random", None, None, None, None)
        host = HeadlessHost(tensors, info, root, layout.text["num_attention_heads"])
        pairs = {
            "name": "zxqbench",
            "data.images": str(draw(root / "images", 1, 64)),
            "data.trigger": "zxq",
            "data.class_word": "cat",
            "data.resolution": "64",
            "training.steps": str(steps + 1),
            "objective.prior": "off",
            **changes,
        }
        settings = automatic_settings.resolved(codec.with_values(Settings(), pairs.items()), 1, 1)[0]
        images = dataset.find(settings)
        made = builder.bind(settings, images, host, info, root / "cache", lambda changed: None, lambda report: None)
        trainer, counter = made.trainer, _Counter()
        try:
            for step in range(steps):
                batches = [trainer.batches(micro_step) for micro_step in trainer._micro_steps()]
                with trainer.turns.step(), counter if step == steps - 1 else torch.enable_grad():
                    trainer._one_step(trainer.plan.rates(step), batches)
                trainer.step += 1
            trainer.turns.close()
        finally:
            made.close()
        return counter.counted


def main(arguments: Sequence[str]) -> int:
    """Print a line per row."""
    parser = argparse.ArgumentParser(
        prog="python -m bench operations", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--base", choices=tuple(_DTYPES), default="bf16", help="of the model's weights; fp32 is a WebUI with --no-half")
    parser.add_argument("--precision", default="auto", help="training.precision; bf16 on a base in fp32 computes under autocast")
    parser.add_argument("--adapter", default="lora")
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--names", action="store_true", help="also by name, the most frequent first")
    options = parser.parse_args(arguments)
    common = {
        "network.rank": str(options.rank),
        "network.adapter": options.adapter,
        "optimizer.name": options.optimizer,
        "training.precision": options.precision,
    }
    print(f"{'operations of a step':32}{'all':>8}{'casts':>8}{'scales':>8}{'reads':>8}")
    for title, changes in ROWS.items():
        found = counted({**common, **changes}, _DTYPES[options.base])
        print(f"{title:32}{found.total:8}{found.casts:8}{found.scales:8}{found.reads:8}", flush=True)
        for name, count in Counter(found.names).most_common(25) if options.names else ():
            print(f"    {name:44}{count:8}")
    return 0
