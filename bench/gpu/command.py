"""The command line: ``python -m bench gpu [--device cuda|cpu] [--widths full|tiny] [--resolution 512] [--output gpu.md]``."""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import torch

from bench.gpu.checks import all_checks
from bench.gpu.ground import Ground
from bench.gpu.report import FAIL, as_json, markdown, row
from lib_finetune.app.report import card_and_driver
from lib_finetune.errors import InputError, Problem

_ROOT = Path(__file__).resolve().parents[2]


def facts(device: torch.device) -> dict[str, str]:
    """Date, commit, card, driver and torch."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=_ROOT, capture_output=True, text=True, check=False).stdout.strip()
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M"),
        "commit": commit or "unknown",
        "device": card,
        "driver": card_and_driver() if device.type == "cuda" else "none",
        "torch": torch.__version__,
    }


def main(arguments: Sequence[str]) -> int:
    """Run all checks and write the table; 1 when one does not hold.

    Raises:
        InputError: the device is not there.
    """
    parser = argparse.ArgumentParser(prog="python -m bench gpu", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--widths", choices=("full", "tiny"), help="of the random weights; SD1.5's on CUDA, tiny on the CPU")
    parser.add_argument("--resolution", type=int, help="of the images, in pixels; 512 on CUDA, 64 on the CPU")
    parser.add_argument("--steps", type=int, default=30, help="of the trainings whose losses are looked at")
    parser.add_argument("--only", nargs="*", help="words; the checks whose names hold one of them")
    parser.add_argument("--output", type=Path, default=Path("gpu.md"), metavar="FILE.md", help="the table; a .json is written beside it")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise InputError([Problem("--device", "torch has no CUDA here. Install a torch with CUDA, or take --device cpu.")])
    on_cuda = options.device == "cuda"
    with tempfile.TemporaryDirectory(prefix="finetune-gpu-") as folder:
        ground = Ground(
            torch.device("cuda", 0) if on_cuda else torch.device("cpu"),
            Path(folder),
            full=(options.widths or ("full" if on_cuda else "tiny")) == "full",
            resolution_px=options.resolution or (512 if on_cuda else 64),
            steps=options.steps,
        )
        rows = []
        for name, check in all_checks(ground).items():
            if not options.only or any(word in name for word in options.only):
                rows.append(row(name, check, time.perf_counter))
                print(f"{rows[-1].outcome:9}{name:45}{rows[-1].figure}", flush=True)
    about = facts(ground.device)
    options.output.write_text(markdown(about, rows), encoding="utf-8")
    options.output.with_suffix(".json").write_text(as_json(about, rows), encoding="utf-8")
    print(f"{options.output}\n{options.output.with_suffix('.json')}")
    return 1 if any(each.outcome == FAIL for each in rows) else 0
