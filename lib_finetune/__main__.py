"""Composition root without the WebUI: ``python -m lib_finetune``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lib_finetune import cli


def open_host(checkpoint: Path, root: Path, precision: str) -> Any:
    """A headless host on a checkpoint file; on the CPU bf16 weights when bf16 is asked for, fp32 otherwise."""
    import torch

    from lib_finetune.host.headless import HeadlessHost

    on_cuda = torch.cuda.is_available()
    dtypes = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16 if on_cuda else torch.float32}
    return HeadlessHost.open(checkpoint, root, dtype=dtypes.get(precision))


if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[1:], open_host))
