"""The driver as a test: needs a WebUI 1.10.1, named by FINETUNE_WEBUI; run with ``-m webui``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
#: Environment variable → what it names. The driver's own Python may be another, one that has playwright.
NEEDED = {
    "FINETUNE_WEBUI": "the folder of a WebUI 1.10.1",
    "FINETUNE_WEBUI_PYTHON": "the Python of its environment",
    "FINETUNE_WEBUI_CHECKPOINT": "a Stable Diffusion 1.5 checkpoint, a small one",
}


@pytest.mark.webui
@pytest.mark.timeout(7200)
def test_everything_holds_in_a_real_webui(tmp_path: Path) -> None:
    missing = [f"{name} ({meaning})" for name, meaning in NEEDED.items() if not os.environ.get(name)]
    if missing:
        pytest.skip("these environment variables are not set: " + ", ".join(missing))
    given = ["--webui", "--python", "--checkpoint"]
    command = [part for flag, name in zip(given, NEEDED) for part in (flag, os.environ[name])]
    if other := os.environ.get("FINETUNE_WEBUI_OTHER"):
        command += ["--other", other]
    driver = os.environ.get("FINETUNE_DRIVER_PYTHON", sys.executable)
    done = subprocess.run(
        [driver, "-m", "bench.webui.driver", *command, "--scratch", str(tmp_path)], cwd=ROOT, text=True, stdout=subprocess.PIPE
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout
