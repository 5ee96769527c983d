"""Real small runs on the command line, which are ended at chosen moments and gone on with."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import save_file

from tests.fakes.host import tiny_tensors
from tests.fakes.pictures import draw

STEPS = 6
SMALL = ("--resolution", "64", "--steps", str(STEPS), "--set", "saving.state_every=1", "--set", "preview.steps=2")
METHODS = {
    "lora": ("--set", "network.rank=2", "--set", "network.targets=attention", "--set", "network.dropout=0.1"),
    "textual-inversion": ("--vectors", "2", "--set", "network.rank=2"),
    "pivotal-tuning": ("--vectors", "2", "--set", "network.rank=2", "--set", "network.targets=attention", "--set", "embedding.until=1"),
    "dreambooth": ("--set", "data.class_count=2", "--class-word", "cat"),
}
NAME = "zxqcat"


def make_world(root: Path) -> Path:
    """Images and a checkpoint of random weights."""
    draw(root / "pictures")
    save_file(tiny_tensors(), root / "tiny.safetensors", metadata={"text_encoder_heads": "2"})
    return root


def command(root: Path, method: str, out: Path, *more: str) -> list[str]:
    """Arguments of a small run with snapshots and previews on its way."""
    return [
        "train", method, "--checkpoint", str(root / "tiny.safetensors"), "--images", str(root / "pictures"), "--name", NAME,
        "--trigger", "zxq", "--output-root", str(out), *SMALL, "--set", "preview.every=4", "--set", "saving.every_steps=3",
        *METHODS[method], *more,
    ]  # fmt: skip


def start(root: Path, method: str, out: Path, *more: str) -> subprocess.Popen[str]:
    """The run as a process of its own."""
    arguments = [sys.executable, "-m", "lib_finetune", *command(root, method, out, *more)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def end_when(process: subprocess.Popen[str], moment: Callable[[], bool], number: int, wait_s: float = 120.0) -> str:
    """Send a signal at a moment, wait for the end; returns what was printed."""
    until = time.monotonic() + wait_s
    while time.monotonic() < until and process.poll() is None and not moment():
        time.sleep(0.0005)
    if process.poll() is None:
        process.send_signal(number)
    return process.communicate(timeout=wait_s)[0]


def result_files(out: Path) -> dict[str, Path]:
    """Name → each file among the results, hidden ones too."""
    places = (out / "models", out / "embeddings")
    return {str(path.relative_to(out)): path for place in places for path in place.rglob("*") if path.is_file()}


def half_files(out: Path) -> list[Path]:
    """What is left of files that were being written."""
    return [path for path in out.rglob("*") if path.name.endswith((".part", ".new")) or path.name == "preview.safetensors"]


def moments(out: Path) -> dict[str, Callable[[], bool]]:
    """Moments of a run that can be seen from outside."""

    def seen(*patterns: str) -> Callable[[], bool]:
        return lambda: any(True for pattern in patterns for _ in out.glob(pattern))

    return {
        "state half written": seen(".finetune/runs/*/.state*.part"),
        "state written": seen(".finetune/runs/*/state*.safetensors"),
        "result half written": seen("models/*/.*.part", "embeddings/.*.part"),
        "result written": seen(f"models/*/{NAME}.safetensors", f"embeddings/{NAME}.*"),
        "preview": seen(".finetune/runs/*/previews/000004/*", ".finetune/runs/*/preview.safetensors", ".finetune/runs/*/.preview*.part"),
        "snapshot": seen(f"models/*/{NAME}-000003*", f"embeddings/{NAME}-000003*"),
        "class images": seen(".finetune/classes/*/*.png"),
    }


def after(seconds: float) -> Callable[[], bool]:
    """A moment so long from now."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def drawn_moment(number: int, took_s: float) -> float:
    """Seconds after the start, the same for each number."""
    return random.Random(number).uniform(0.3, 1.0) * took_s


SIGNALS = tuple(number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None)
