"""Composition root without the WebUI: ``python -m lib_finetune``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

from lib_finetune import cli
from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.errors import HostError, InputError, Problem

_SUBJECT = "winking-star"
_SAMPLE = {"name": "sample-star", "data.trigger": "sks", "data.class_word": "star", "training.steps": "300"}
"""Beside nano's own preset."""
_WEIGHTS = (0.6, 0.8, 1.0)
_GROUNDS = {2: "green", 5: "striped blue", 7: "red"}
"""Seed → ground; the last is on none of the training pictures."""


def reproducible_matrix_products() -> None:
    """Have MKL give the same bits in every run; without this two equal runs on the CPU differ in the last digit.

    Read by MKL at its first product, so this must come before any.
    """
    os.environ.setdefault("MKL_CBWR", "AUTO")


def open_host(checkpoint: Path, root: Path, precision: str, predicts: str | None = None) -> Any:
    """A headless host on a checkpoint file; on the CPU bf16 weights when bf16 is asked for, fp32 otherwise."""
    import torch

    from lib_finetune.host.headless import HeadlessHost

    on_cuda = torch.cuda.is_available()
    dtypes = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16 if on_cuda else torch.float32}
    return HeadlessHost.open(checkpoint, root, dtype=dtypes.get(precision), predicts=predicts)


def train_file(checkpoint: Path, root: Path, values: list[tuple[str, str]]) -> Path:
    """Train with settings by dotted name; returns the finished file, which lies under ``root``/models.

    Raises:
        HostError: the training ended without a file.
    """
    settings = codec.with_values(Settings(), values)
    cli.refuse_wrong_input(settings, checkpoint)
    result = cli.train_on(open_host(checkpoint, root, settings.training.precision), settings)
    if result.file is None:
        raise HostError("The training ended without a file.")
    return result.file


def quickstart(options: argparse.Namespace) -> int:
    """Train a LoRA on the sample pictures and show base and result side by side."""
    import torch

    from bench.nano.folders import write_subject
    from bench.nano.presets import preset
    from lib_finetune.export.picture import write_png

    start = time.monotonic()
    torch.set_num_threads(1)  # nano's layers are so small that threads would only wait for one another
    root = options.output_root.resolve()
    pictures = root / "pictures"
    write_subject(pictures, _SUBJECT)
    host = open_host(_sample_checkpoint(root), root, "auto")
    settings = codec.with_values(
        Settings(),
        list({**preset("lora"), "preview.enabled": "true", "preview.every": "0", **_SAMPLE, "data.images": str(pictures)}.items()),
    )
    result = cli.train_on(host, settings)
    sheet = root / "before-and-after.png"
    write_png(sheet, _before_and_after(host, result.file))
    print(f"LoRA: {result.file}\nBefore and after: {sheet}\n{time.monotonic() - start:.0f} seconds in all.")
    return 0


def page(options: argparse.Namespace) -> int:
    """Serve the tab without the WebUI."""
    from lib_finetune.app.services import services_of
    from lib_finetune.installation.requirements import problems
    from lib_finetune.jobs.queue import Jobs
    from lib_finetune.standalone import serve

    root = options.output_root.resolve()
    checkpoint = options.checkpoint or _sample_checkpoint(root)
    if not checkpoint.is_file():
        raise InputError([Problem("--checkpoint", f"{checkpoint} does not exist. Name a .safetensors or .ckpt file.")])
    serve(
        services_of(Jobs(open_host(checkpoint, root, "auto", options.prediction))),
        problems,
        options.port,
        lambda line: print(line, flush=True),
    )
    return 0


def _sample_checkpoint(root: Path) -> Path:
    """The nano checkpoint, or random weights of the same layout while it is not there."""
    from bench.nano import checkpoint

    if checkpoint.FILE.is_file():
        return checkpoint.FILE
    from safetensors.torch import save

    from bench.nano import layout
    from bench.random_weights import random_checkpoint, sd15_layout
    from lib_finetune.files import write_atomically

    widths = tuple(layout.UNET_WIDTH * level for level in layout.UNET_LEVELS)
    vae = tuple(layout.VAE_WIDTH * level for level in layout.VAE_LEVELS)
    shape = sd15_layout(widths, vae, layout.TEXT_WIDTH, layout.TEXT_LAYERS, layout.VAE_RES_BLOCKS, layout.TEXT_HEADS)  # type: ignore[arg-type]
    path = root / "models" / "Stable-diffusion" / "random-weights.safetensors"
    write_atomically(path, save(random_checkpoint(shape, seed=0)))
    print("The nano checkpoint is not there; random weights of its layout are trained, whose pictures show nothing.")
    return path


def _before_and_after(host: Any, lora: Path) -> Any:
    from lib_finetune.export.picture import grid
    from lib_finetune.ports.pictures import PictureRequest

    def picture(seed: int, ground: str, weight: float) -> Any:
        loras = ((lora, weight),) if weight else ()
        prompt = f"a photo of sks star on a {ground} background"
        return host.picture(PictureRequest(prompt, loras=loras, width_px=128, height_px=128, steps=15, guidance=6.0, seed=seed))

    rows = [[picture(seed, ground, weight) for weight in (0.0, *_WEIGHTS)] for seed, ground in _GROUNDS.items()]
    return grid(rows, ["base", *(f"weight {weight}" for weight in _WEIGHTS)], [f"sks star, {ground}" for ground in _GROUNDS.values()])


def main(arguments: list[str]) -> int:
    """The whole command line."""
    if arguments[:1] == ["nano"]:
        from bench.nano import __main__ as nano

        return nano.main(arguments[1:], train_file)
    return cli.main(arguments, open_host, {"quickstart": quickstart, "ui": page})


if __name__ == "__main__":
    reproducible_matrix_products()
    sys.exit(main(sys.argv[1:]))
