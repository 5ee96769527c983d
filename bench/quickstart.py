"""The quickstart: trains a LoRA on drawn sample images with the small checkpoint and shows base and result side by side."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lib_finetune import cli
from lib_finetune.__main__ import open_host
from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.errors import HostError

_SUBJECT = "winking-star"
_SAMPLE = {"name": "sample-star", "data.trigger": "sks", "data.class_word": "star", "training.steps": "300"}
"""Beside nano's own preset."""
_WEIGHTS = (0.6, 0.8, 1.0)
_GROUNDS = {2: "green", 5: "striped blue", 7: "red"}
"""Seed → ground; the last is on none of the training images."""


def main(arguments: Sequence[str]) -> int:
    """Train and compare; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench quickstart", description=__doc__)
    parser.add_argument("--output-root", type=Path, default=Path("quickstart-output"), metavar="DIR")
    run(parser.parse_args(arguments).output_root.resolve())
    return 0


def run(root: Path) -> None:
    """Train the sample LoRA into ``root``.

    Raises:
        HostError: the training ended without a file.
    """
    import torch

    from bench.nano.folders import write_subject
    from bench.nano.presets import preset
    from lib_finetune.export.picture import write_png

    start = time.monotonic()
    torch.set_num_threads(1)  # nano's layers are so small that threads would only wait for one another
    images = root / "pictures"
    write_subject(images, _SUBJECT)
    host = open_host(sample_checkpoint(root), root, "auto")
    values = {**preset("lora"), "preview.enabled": "true", "preview.every": "0", **_SAMPLE, "data.images": str(images)}
    result = cli.train_on(host, codec.with_values(Settings(), list(values.items())))
    if result.file is None:
        raise HostError("The training ended without a file.")
    comparison = root / "before-and-after.png"
    write_png(comparison, _before_and_after(host, result.file))
    print(f"LoRA: {result.file}\nBefore and after: {comparison}\n{time.monotonic() - start:.0f} seconds in all.")


def sample_checkpoint(root: Path) -> Path:
    """The nano checkpoint; where it is missing, random weights of the same layout, written below ``root``."""
    from bench.nano import checkpoint

    if checkpoint.FILE.is_file():
        return checkpoint.FILE
    from safetensors.torch import save

    from bench.nano import layout
    from lib_finetune.files import write_atomically
    from lib_finetune.model.random_weights import random_checkpoint, sd15_layout

    widths = tuple(layout.UNET_WIDTH * level for level in layout.UNET_LEVELS)
    vae = tuple(layout.VAE_WIDTH * level for level in layout.VAE_LEVELS)
    shape = sd15_layout(widths, vae, layout.TEXT_WIDTH, layout.TEXT_LAYERS, layout.VAE_RES_BLOCKS, layout.TEXT_HEADS)  # type: ignore[arg-type]
    path = root / "models" / "Stable-diffusion" / "random-weights.safetensors"
    write_atomically(path, save(random_checkpoint(shape, seed=0)))
    print("The nano checkpoint is missing. Random weights of its layout are trained instead, whose images show nothing.")
    return path


def _before_and_after(host: Any, lora: Path) -> Any:
    from lib_finetune.export.picture import grid
    from lib_finetune.ports.pictures import PictureRequest

    def picture(seed: int, ground: str, weight: float) -> Any:
        loras = ((lora, weight),) if weight else ()
        prompt = f"a photo of sks star on a {ground} background"
        return host.pictures.make(PictureRequest(prompt, loras=loras, width_px=128, height_px=128, steps=15, guidance=6.0, seed=seed))

    rows = [[picture(seed, ground, weight) for weight in (0.0, *_WEIGHTS)] for seed, ground in _GROUNDS.items()]
    return grid(rows, ["base", *(f"weight {weight}" for weight in _WEIGHTS)], [f"sks star, {ground}" for ground in _GROUNDS.values()])
