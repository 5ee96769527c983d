"""The page without the WebUI as a process of its own, and questions to it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(world: Path, out: Path, port: int) -> subprocess.Popen[str]:
    """The page, once it answers."""
    arguments = ["ui", "--checkpoint", str(world / "tiny.safetensors"), "--output-root", str(out), "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "lib_finetune", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout
    while "is ready" not in (line := process.stdout.readline()):
        assert line, process.wait(10)
    while not _listens(port):
        time.sleep(0.05)
    return process


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ask(port: int, path: str, content: Any = None) -> Any:
    """The answer of a route."""
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/finetune/v1/{path}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def training(world: Path, name: str, steps: int) -> dict[str, Any]:
    """The body of a request for a small LoRA."""
    return {
        "method": "lora", "name": name, "data": {"images": str(world / "pictures"), "trigger": "zxq", "resolution": 64},
        "network": {"rank": 2, "targets": "attention"}, "training": {"steps": steps}, "saving": {"state_every": 100000},
        "preview": {"enabled": False},
    }  # fmt: skip
