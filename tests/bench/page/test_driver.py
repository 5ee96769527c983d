"""The driver of the page as a test: a whole training through the tab, in headless Chromium."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
#: The driver's Python may be another than the one that serves the page.
DRIVER_PYTHON = os.environ.get("FINETUNE_DRIVER_PYTHON", sys.executable)


def missing() -> str:
    """What this machine lacks for a browser, or ""."""
    if shutil.which("chromium") is None:
        return "there is no Chromium (a program named chromium) on this machine"
    if importlib.util.find_spec("gradio") is None:
        return "gradio belongs to the WebUI's library set"
    if subprocess.run([DRIVER_PYTHON, "-c", "import playwright"], capture_output=True, check=False).returncode:
        return f"{DRIVER_PYTHON} has no playwright; `python quickstart.py test` installs it with the set host"
    return ""


@pytest.mark.browser
@pytest.mark.timeout(1200)
def test_a_person_trains_through_the_page(tmp_path: Path) -> None:
    if reason := missing():
        pytest.skip(reason)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [DRIVER_PYTHON, "-m", "bench.page.driver", "--python", sys.executable, "--port", port, "--screenshots", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
