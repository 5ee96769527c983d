"""The self-test: two steps of each method on random weights, through the queue, as a person's training goes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.errors import FinetuneError
from lib_finetune.jobs.queue import Jobs
from lib_finetune.jobs.status import status_of

if TYPE_CHECKING:
    from lib_finetune.ports.host import Host

METHODS = {"lora": {}, "dreambooth": {"data.trigger": "sks"}, "textual_inversion": {"name": "zxqtest"}}
"""Method → what differs from `_SMALL`."""
PATIENCE_S = 120.0
_SMALL = {
    "name": "self-test",
    "data.trigger": "zxq",
    "data.class_word": "star",
    "data.resolution": "64",
    "network.rank": "2",
    "training.steps": "2",
    "preview.enabled": "false",
}
_POLL_S = 0.02


def self_test(host: Host, folder: Path) -> list[str]:
    """Train two steps of each method and compare the host's weights before and after; a sentence for each method that fails.

    Args:
        host: on weights that nobody needs.
        folder: a scratch folder, for the images.
    """
    images = _draw(folder / "images")
    jobs = Jobs(host)
    return [f"{method}: {fault}" for method in METHODS if (fault := _trained(jobs, method, images))]


def _trained(jobs: Jobs, method: str, images: Path) -> str:
    changes = {**_SMALL, "method": method, "data.images": str(images), **METHODS[method]}
    try:
        job = jobs.submit(codec.with_values(Settings(), changes.items()))
    except FinetuneError as error:
        return str(error)
    until = time.monotonic() + PATIENCE_S
    while not job.ended:
        if time.monotonic() > until:
            jobs.cancel(job.folder.name)
            return f"two steps were not done in {PATIENCE_S:.0f} seconds."
        time.sleep(_POLL_S)
    status = status_of(job)
    if status["state"] != "done":
        return str(status["message"])
    return next((line for line in status["log"] if "NOT as it was" in line), "")


def _draw(folder: Path) -> Path:
    from PIL import Image, ImageDraw

    folder.mkdir(parents=True)
    for number, colour in enumerate(("red", "green", "blue")):
        image = Image.new("RGB", (96, 96), "white")
        ImageDraw.Draw(image).regular_polygon((48, 48, 20 + 8 * number), 5, fill=colour)
        image.save(folder / f"{number}.png")
    return folder
