"""A WebUI in a process of its own, in a scratch folder, with our extension and the probe."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
READY = "Startup time:"
_START_S = 600
_FLAGS = [
    *("--api", "--skip-torch-cuda-test", "--skip-prepare-environment", "--no-download-sd-model", "--disable-console-progressbars"),
    *("--use-cpu", "all", "--no-half", "--precision", "full", "--skip-version-check", "--skip-python-version-check"),
]
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "PYTHONUNBUFFERED": "1",
    "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),  # results are equal bit for bit at an equal number of threads
    "OMP_WAIT_POLICY": "PASSIVE",  # on a busy machine threads that spin take the time from those that work
}


class WebUI:
    """Starts, stops and kills it, and speaks HTTP with it."""

    def __init__(self, app: Path, python: Path, data: Path, port: int, flags: Sequence[str] = ()) -> None:
        """
        Args:
            app: folder of the WebUI 1.10.1.
            python: of its environment.
            data: its scratch data folder, made by `prepare`.
            flags: more arguments of its command line.
        """
        self.app, self.python, self.data, self.port, self.flags = app, python, data, port, flags
        self.lora = data / "my-loras"
        self.log = data / "webui.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._http = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def prepare(self, checkpoints: list[Path]) -> None:
        """Make the data folder: checkpoints (with the .yaml beside them), extensions, settings."""
        models = self.data / "models" / "Stable-diffusion"
        for folder in (models, self.lora, self.data / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)
        for file in checkpoints:
            for part in (file, file.with_suffix(".yaml")):
                if part.exists() and not (models / part.name).exists():
                    (models / part.name).symlink_to(part.resolve())
        settings = {"sd_model_checkpoint": checkpoints[0].name, "samples_save": False, "grid_save": False}
        # "Original" divides by the mean of the encoded prompt, which is zero in a random text encoder.
        settings["emphasis"] = "No norm"
        (self.data / "config.json").write_text(json.dumps(settings), encoding="utf-8")
        _copy_project(self.data / "extensions" / "finetune")
        shutil.copytree(Path(__file__).parent / "probe", self.data / "extensions" / "finetune-probe", dirs_exist_ok=True)

    def start(self) -> float:
        """Start it and wait until it is ready; returns the seconds that took.

        Raises:
            RuntimeError: it ended, or was not ready in time.
        """
        begin = time.monotonic()
        command = [
            str(self.python),
            "-u",
            "launch.py",
            "--data-dir",
            str(self.data),
            "--port",
            str(self.port),
            "--lora-dir",
            str(self.lora),
        ]
        temporary = {"TMPDIR": str(self.data / "tmp"), "HF_HOME": str(self.data / "hf"), "MPLCONFIGDIR": str(self.data / "tmp")}
        ready = self.times_ready()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *_FLAGS, *self.flags],
                cwd=self.app,
                env={**os.environ, **_ENVIRONMENT, **temporary},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.await_ready(ready + 1)
        return time.monotonic() - begin

    def times_ready(self) -> int:
        """How often the log says that it is ready: once per start and once per Reload UI."""
        return self.log.read_text(encoding="utf-8", errors="replace").count(READY) if self.log.exists() else 0

    def await_ready(self, times: int, within_s: float = _START_S) -> None:
        """Wait by the log alone: an early HTTP request can break the start.

        Raises:
            RuntimeError: it ended, or was not ready in time.
        """
        until = time.monotonic() + within_s
        while self.times_ready() < times:
            if self._process is None or self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"The WebUI was not ready after {within_s:.0f} s; see {self.log}")
            time.sleep(0.5)

    def kill(self) -> None:
        """SIGKILL to the whole process group, as a power cut would."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def ask(self, path: str, body: Any = None, timeout_s: float = 300) -> Any:
        """GET, or POST when there is a body; JSON both ways."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"})
        with self._http.open(request, timeout=timeout_s) as answer:
            return json.load(answer)

    def picture(self, prompt: str, seed: int = 1) -> bytes:
        """A small txt2img image as PNG."""
        return self.raw_picture({"prompt": prompt, "seed": seed, "steps": 2, "width": 128, "height": 128, "sampler_name": "Euler"})

    def raw_picture(self, request: dict[str, Any]) -> bytes:
        """A txt2img image as PNG; ``request`` as the WebUI's API takes it."""
        return base64.b64decode(self.ask("/sdapi/v1/txt2img", request)["images"][0])

    def load(self, checkpoint: str) -> None:
        """Choose a checkpoint by file name, as the page's drop-down does."""
        self.ask("/sdapi/v1/options", {"sd_model_checkpoint": checkpoint})


def _copy_project(target: Path) -> None:
    """What git would ship, from the work tree: tracked files and new ones that it does not ignore.

    Tests, documents and the bench stay behind: the extension must do without them.
    """
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if not name.startswith(("bench/", "docs/", "tests/")) and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
