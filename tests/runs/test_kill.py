"""A killed run goes on to the same file, and files are whole or absent; real processes, SIGKILL."""

import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import save_file

from lib_finetune.__main__ import main
from tests.fakes.host import tiny_tensors
from tests.fakes.pictures import draw
from tests.fakes.runs import same, tensors

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL"),
    pytest.mark.timeout(600),
    pytest.mark.slow,
]
STEPS = 8


def command(root, out, *more):
    return [
        "train", "lora", "--checkpoint", str(root / "tiny.safetensors"), "--images", str(root / "pictures"),
        "--name", "cat", "--trigger", "zxq", "--steps", str(STEPS), "--resolution", "64", "--output-root", str(out),
        "--set", "network.rank=2", "--set", "network.targets=attention",
        "--set", "network.dropout=0.1", "--set", "preview.enabled=false", "--set", "saving.state_every=1", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("kill")
    draw(root / "pictures")
    save_file(tiny_tensors(), root / "tiny.safetensors", metadata={"text_encoder_heads": "2"})
    assert main(command(root, root / "straight")) == 0
    return root


def kill_once(root, out, *, while_saving):
    """Start a run, kill it in the middle of a step or while a state is being written; returns whether it was still alive."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lib_finetune", *command(root, out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    runs = out / ".finetune" / "runs"
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        states = list(runs.glob("*/state.safetensors"))
        if states and (not while_saving or list(runs.glob("*/.state*.part"))):
            break
        time.sleep(0.001)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return alive


@pytest.mark.parametrize("while_saving", [False, True])
def test_a_killed_run_goes_on_to_the_same_file(root, tmp_path, while_saving):
    kill_once(root, tmp_path, while_saving=while_saving)
    assert not list((tmp_path / "models").rglob("*.safetensors"))  # no half a file among the results
    assert main(command(root, tmp_path, "--continue")) == 0
    assert same(tensors(root / "straight/models/Lora/cat.safetensors"), tensors(tmp_path / "models/Lora/cat.safetensors"))
