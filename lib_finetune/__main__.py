"""Composition root without the WebUI: ``python -m lib_finetune``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from lib_finetune import cli
from lib_finetune.errors import InputError, Problem


def reproducible_matrix_products() -> None:
    """Have MKL give the same bits in every run; without this two equal runs on the CPU differ in the last digit.

    Read by MKL at its first product, so this must come before any.
    """
    os.environ.setdefault("MKL_CBWR", "AUTO")


def open_host(checkpoint: Path, root: Path, precision: str, predicts: str | None = None) -> Any:
    """A headless host on a checkpoint file; on the CPU bf16 weights when bf16 is asked for, fp32 otherwise."""
    import torch

    from lib_finetune.host.headless.host import HeadlessHost

    on_cuda = torch.cuda.is_available()
    dtypes = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16 if on_cuda else torch.float32}
    return HeadlessHost.open(checkpoint, root, dtype=dtypes.get(precision), predicts=predicts)


def page(options: argparse.Namespace) -> int:
    """Serve the tab without the WebUI.

    Raises:
        InputError: no checkpoint, or one that does not exist.
    """
    checkpoint, root = options.checkpoint, options.output_root.resolve()
    if checkpoint is None:
        small = "To try the page with a small one, run: python quickstart.py ui"
        raise InputError([Problem("--checkpoint", f"name a Stable Diffusion 1.x checkpoint, .safetensors or .ckpt, to train on. {small}")])
    if not checkpoint.is_file():
        raise InputError([Problem("--checkpoint", f"{checkpoint} does not exist. Name a .safetensors or .ckpt file.")])
    from lib_finetune.app.services import services_of
    from lib_finetune.installation import loaded_files
    from lib_finetune.installation.requirements import problems
    from lib_finetune.jobs.queue import Jobs
    from lib_finetune.standalone import serve

    loaded_files.remember()
    services = services_of(Jobs(open_host(checkpoint, root, "auto", options.prediction), loaded_files.outdated))
    serve(services, problems, options.port, lambda line: print(line, flush=True))
    return 0


def random_host(root: Path) -> Any:
    """A headless host on small random weights, for a test of the installation; on CUDA where there is one."""
    import torch
    from safetensors.torch import save_file

    from lib_finetune.host.headless.host import HeadlessHost
    from lib_finetune.model.random_weights import random_checkpoint, small_layout
    from lib_finetune.ports.checkpoint import CheckpointInfo

    on_cuda = torch.cuda.is_available()
    tensors = random_checkpoint(small_layout(), 0, torch.float16 if on_cuda else torch.float32)
    if on_cuda:
        tensors = {name: tensor.cuda() for name, tensor in tensors.items()}
    path = root / "random.safetensors"
    save_file({name: tensor.cpu() for name, tensor in tensors.items()}, path)
    return HeadlessHost(tensors, CheckpointInfo("random", path, "0" * 64, "0" * 10, None, "epsilon"), root, text_heads=2)


def doctor(options: argparse.Namespace) -> int:
    """Print the report for an issue and what is in the way of training; 1 when anything is."""
    from lib_finetune.app.doctor import examine

    diagnosis = examine(
        options.output_root.resolve(),
        options.checkpoint,
        lambda checkpoint: open_host(checkpoint, options.output_root.resolve(), "auto", options.prediction),
        random_host,
    )
    print(diagnosis.report)
    print("\n".join([*(f"ok: {note}" for note in diagnosis.notes), *(f"fault: {fault}" for fault in diagnosis.faults)]))
    return 1 if diagnosis.faults else 0


def main(arguments: list[str]) -> int:
    """The whole command line."""
    return cli.main(arguments, open_host, {"ui": page, "doctor": doctor})


if __name__ == "__main__":
    reproducible_matrix_products()
    sys.exit(main(sys.argv[1:]))
