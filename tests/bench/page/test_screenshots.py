"""The tab before a first training, and with wrong input, is seen through by axe-core in headless Chromium."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.page.test_driver import DRIVER_PYTHON, ROOT, missing


@pytest.mark.browser
@pytest.mark.timeout(1800)
def test_axe_core_finds_nothing_serious(tmp_path: Path) -> None:
    if reason := missing():
        pytest.skip(reason)
    if subprocess.run([DRIVER_PYTHON, "-c", "import axe_playwright_python"], capture_output=True, check=False).returncode:
        pytest.skip(f"{DRIVER_PYTHON} has no axe-core; `python quickstart.py test` installs axe-playwright-python with the set host")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [DRIVER_PYTHON, "-m", "bench.page.screenshots", "--python", sys.executable, "--port", port, "--into", str(tmp_path)]
    done = subprocess.run([*command, "--only", "empty", "broken"], cwd=ROOT, text=True, capture_output=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert len(list(tmp_path.glob("*.png"))) == 21
