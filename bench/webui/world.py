"""What the checks share: the WebUI, the tab, perhaps a browser, the images, and the settings of every run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.webui.browser import Browser
from bench.webui.files import tensors
from bench.webui.tab import Tab
from bench.webui.webui import WebUI

PROMPT = "a photo of zxq cat"
ENDED = ("done", "stopped", "discarded", "failed")
_WAIT_S = 900


class LeftOut(Exception):  # noqa: N818  not a fault
    """A check that cannot be made here, with the reason."""


@dataclass
class World:
    """See the module."""

    webui: WebUI
    pictures: Path
    steps: int
    browser: Browser | None = None
    screenshots: Path | None = None
    other: str | None = None
    checkpoint: str = ""
    notes: dict[str, Any] = field(default_factory=dict)

    def settings(self, name: str, steps: int | None = None) -> dict[str, str]:
        """What is filled in for a run, by field; every run of the same length gives the same tensors."""
        return {
            "images": str(self.pictures),
            "trigger": "zxq",
            "class_word": "cat",
            "name": name,
            "training_steps": str(steps or self.steps),
            "data_resolution": "128",
            "network_dropout": "0.1",
            "saving_state_every": "10",
            "preview_steps": "3",
        }

    def seen(self) -> Browser:
        """The browser.

        Raises:
            LeftOut: there is none.
        """
        if self.browser is None:
            raise LeftOut("needs playwright and Chromium")
        return self.browser

    def shot(self, name: str) -> Path | None:
        """Where a screenshot goes, if they are wanted."""
        return self.screenshots and self.screenshots / f"{name}.png"

    def train(self, name: str, steps: int | None = None, **more: str) -> None:
        """Press Train, without a browser; ``more`` are further fields."""
        tab = Tab(self.webui)
        tab.fill(**{**self.settings(name, steps), **more})
        said = tab.press("finetune_train")
        assert "finetune-problems" not in said, f"Train said {said}"

    def press(self, button: str, **values: Any) -> str:
        """Press another of our buttons, without a browser, on a page that shows the current job."""
        tab = Tab(self.webui)
        tab.fill(**values)
        tab.press("finetune_refresh")
        return tab.press(f"finetune_{button}")

    def probe(self, what: str) -> Any:
        """Ask the probe."""
        return self.webui.ask(f"/finetune-probe/{what}")

    def job(self, name: str) -> dict[str, Any] | None:
        """Status of the last job of that name."""
        return next((job for job in reversed(self.probe("jobs")) if job["name"] == name), None)

    def await_job(self, name: str, until: Callable[[dict[str, Any]], bool], timeout_s: float = _WAIT_S) -> dict[str, Any]:
        """Wait until a job's status is as wanted.

        Raises:
            AssertionError: it ended otherwise, or did not in time.
        """
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            job = self.job(name)
            if job is not None and until(job):
                return job
            assert job is None or job["state"] not in ENDED, f"{name} ended: {job['state']}, {job['message']}"
            time.sleep(0.3)
        raise AssertionError(f"{name} is still {job and (job['state'], job['stage'], job['done'])}")

    def await_step(self, name: str, step: int) -> dict[str, Any]:
        """Wait until a job trains and has done that many steps."""
        return self.await_job(name, lambda job: job["stage"] == "train" and job["done"] >= step)

    def await_end(self, name: str, state: str = "done") -> dict[str, Any]:
        """Wait until a job ends in that state."""
        return self.await_job(name, lambda job: job["state"] == state)

    def file(self, name: str) -> Path:
        """Where a result lies."""
        return self.webui.lora / f"{name}.safetensors"

    def same_as_undisturbed(self, name: str) -> None:
        """Raises AssertionError when a result's tensors are not those of the undisturbed run."""
        assert tensors(self.file(name)) == tensors(self.file("quiet")), f"{name} differs from the undisturbed run"
