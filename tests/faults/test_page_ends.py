"""The page without the WebUI is asked to end while it trains: the state is saved first, and the job can be resumed."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from lib_finetune.runs.folder import RunFolder
from tests.faults import driver

pytest.importorskip("gradio")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise there"),
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ask(port, path, content=None):
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/finetune/v1/{path}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_the_page_saves_the_state_of_what_it_trains(tmp_path, name):
    world, port, out = driver.make_world(tmp_path), free_port(), tmp_path / "out"
    arguments = ["ui", "--checkpoint", str(world / "tiny.safetensors"), "--output-root", str(out), "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "lib_finetune", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        while "is ready" not in (line := process.stdout.readline()):
            assert line, process.wait(10)
        while not listens(port):
            time.sleep(0.05)
        values = {
            "name": driver.NAME, "data": {"images": str(world / "pictures"), "trigger": "zxq", "resolution": 64},
            "network": {"rank": 2, "targets": "attention"}, "training": {"steps": 20000}, "saving": {"state_every": 100000},
            "preview": {"enabled": False},
        }  # fmt: skip
        job = ask(port, "jobs", {"method": "lora", **values})
        until = time.monotonic() + 120
        while time.monotonic() < until and not ask(port, f"jobs/{job['id']}")["losses"]:
            time.sleep(0.2)
        process.send_signal(getattr(signal, name))
        printed = process.communicate(timeout=120)[0]
    finally:
        process.kill()
    folder = next((out / ".finetune" / "runs").iterdir())
    record = json.loads((folder / "job.json").read_text())
    assert RunFolder(folder).resumes() and record["state"] == "interrupted" and "can be resumed" in record["message"], printed
    assert "its state saved" in printed and "Traceback" not in printed, printed
