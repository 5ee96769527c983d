"""Proof on one's own machine: ``python -m bench acceptance --checkpoint FILE [--webui URL] [--steps N] [--resolution PX]
[--output-root DIR]``.

Draws eight images of one object, trains the three methods on them with their defaults, and writes one table and one grid of images, to be sent
in. With ``--webui``, a running WebUI on this machine trains and paints, on the checkpoint that it has loaded.
"""

from __future__ import annotations

import argparse
import io
import json
import time
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.nano.folders import IDENTIFIER, write_subject
from lib_finetune import __version__
from lib_finetune.app.report import card_and_driver
from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.errors import FinetuneError, HostError, InputError, Problem

SUBJECT, CLASS_WORD, WORD = "winking-star", "star", "zxqstar"
METHODS = {"lora": "acceptance-lora", "dreambooth": "acceptance-dreambooth", "textual_inversion": WORD}
"""Method → name of its result."""
PLACES = ("on a green background", "on a beach")
_SAME = "exactly as it was"
_POLL_S = 1.0


@dataclass
class Trained:
    """What a training gave.

    Attributes:
        seconds: from the first step to the last.
        peak, computed: bytes of the device's memory in all; 0 where they are not known.
        file: the result.
        verified: what checked the file, or what is wrong with it.
        host: what became of the host's weights.
    """

    method: str
    steps: int = 0
    seconds: float = 0.0
    peak: int = 0
    computed: int = 0
    file: Path | None = None
    verified: str = ""
    host: str = ""
    fault: str = ""
    log: list[str] = field(default_factory=list)


class Trainer(Protocol):
    """Who trains and paints: this program, or a WebUI."""

    device: str

    def train(self, method: str, values: dict[str, str]) -> Trained:
        """One training; a FinetuneError where it fails."""

    def paint(self, prompt: str, result: Trained | None) -> Any:
        """An image with fixed seed, as a PIL image."""


class Here:
    """This program, on a checkpoint file."""

    def __init__(self, checkpoint: Path, root: Path) -> None:
        from lib_finetune.__main__ import open_host

        self._host = open_host(checkpoint, root, "auto")
        self._checkpoint = checkpoint
        self.device = str(self._host.device)
        self.side = 512 if self._host.held.layout.text["hidden_size"] >= 768 else 128

    def train(self, method: str, values: dict[str, str]) -> Trained:
        """See `Trainer`."""
        from lib_finetune import cli
        from lib_finetune.estimates.method_costs import card, machine_of, model_facts
        from lib_finetune.host import memory

        settings = codec.with_values(Settings(), values.items())
        computed = card(settings, 8, model_facts(self._host), machine_of(self._host)).memory_bytes
        memory.reset_peak(self._host.device)
        cli.refuse_wrong_input(settings, self._checkpoint)
        begin = time.monotonic()
        result = cli.train_on(self._host, settings)
        trained = Trained(method, result.steps, time.monotonic() - begin, self._host.memory().peak, computed, result.file)
        trained.host = result.restoration.line
        return trained

    def paint(self, prompt: str, result: Trained | None) -> Any:
        """See `Trainer`."""
        from lib_finetune.ports.pictures import PictureRequest

        file, method = (result.file, result.method) if result else (None, "")
        request = PictureRequest(
            prompt,
            loras=[(file, 1.0)] if file and method == "lora" else [],
            embeddings=[file] if file and method == "textual_inversion" else [],
            checkpoint=file if method == "dreambooth" else None,
            width_px=self.side,
            height_px=self.side,
            seed=1,
        )
        return self._host.pictures.make(request)


class InWebui:
    """A running WebUI on this machine."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._http = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        facts = self._ask("/finetune/v1/about")
        self.device = str(facts["device"])

    def train(self, method: str, values: dict[str, str]) -> Trained:
        """See `Trainer`."""
        job = self._ask("/finetune/v1/jobs", codec.to_dict(codec.with_values(Settings(), values.items())))
        while not job["ended"]:
            time.sleep(_POLL_S)
            job = self._ask(f"/finetune/v1/jobs/{job['id']}")
        log = list(self._ask(f"/finetune/v1/jobs/{job['id']}/events")["log"])
        if job["state"] != "done":
            raise HostError(f"{method} did not end well: {job['message']}")
        file = next(iter(job["files"].values()), None)
        trained = Trained(method, job["done"], job["ended"] - job["started"], 0, 0, Path(file) if file else None, log=log)
        trained.host = next((line for line in log if _SAME in line or "NOT as it was" in line), "")
        return trained

    def paint(self, prompt: str, result: Trained | None) -> Any:
        """See `Trainer`."""
        from PIL import Image

        if result and result.method == "lora" and result.file:
            prompt += f" <lora:{result.file.stem}:1>"
        title = result.file.name if result and result.file and result.method == "dreambooth" else None
        request: dict[str, Any] = {"prompt": prompt, "seed": 1, "steps": 20, "width": 512, "height": 512, "sampler_name": "Euler"}
        if title:
            request |= {"override_settings": {"sd_model_checkpoint": title}, "override_settings_restore_afterwards": True}
        return Image.open(io.BytesIO(b64decode(self._ask("/sdapi/v1/txt2img", request)["images"][0]))).convert("RGB")

    def _ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"})
        try:
            with self._http.open(request, timeout=3600) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise HostError(f"{self._url}{path} answered {error.code}: {error.read().decode(errors='replace')[:500]}") from error
        except OSError as error:
            advice = "Start the WebUI with --api, and name its address, such as http://127.0.0.1:7860."
            raise InputError([Problem("--webui", f"{self._url} does not answer ({error}). {advice}")]) from error


def values_of(method: str, images: Path, changes: Mapping[str, str]) -> dict[str, str]:
    """The settings of a training: the defaults, with the images, the words and the name, and changes by dotted path."""
    values = {
        "method": method,
        "name": METHODS[method],
        "data.images": str(images),
        "data.trigger": IDENTIFIER,
        "data.class_word": CLASS_WORD,
        "preview.enabled": "false",
        "saving.overwrite": "true",
    }
    return {**values, **changes}


def verify(trained: Trained) -> str:
    """That all numbers of a file are finite; the host's own loader and the run have checked it before."""
    import torch
    from safetensors.torch import load_file

    if trained.file is None:
        return "no file"
    tensors = load_file(trained.file) if trained.file.suffix == ".safetensors" else {}
    wrong = [name for name, tensor in tensors.items() if not torch.isfinite(tensor.float()).all()]
    return (
        f"{len(wrong)} of {len(tensors)} tensors hold no numbers"
        if wrong
        else f"{len(tensors)} tensor{'s' * (len(tensors) != 1)}, all finite"
    )


def run(trainer: Trainer, root: Path, changes: Mapping[str, str]) -> list[Trained]:
    """Train each method; one that fails leaves its row, and the next has its turn."""
    images = root / "images"
    write_subject(images, SUBJECT)
    results = []
    for method in METHODS:
        try:
            results.append(trainer.train(method, values_of(method, images, changes)))
            results[-1].verified = verify(results[-1])
        except FinetuneError as error:
            results.append(Trained(method, fault=" ".join(str(error).split())))
    return results


def paint_grid(trainer: Trainer, results: Sequence[Trained]) -> Any:
    """Rows: places; columns: the base and each result."""
    from lib_finetune.export.picture import grid

    columns = [None, *(result for result in results if not result.fault)]
    rows = []
    for place in PLACES:
        words = {"textual_inversion": WORD}
        rows.append(
            [
                trainer.paint(f"a photo of {words.get(each.method if each else '', f'{IDENTIFIER} {CLASS_WORD}')} {place}", each)
                for each in columns
            ]
        )
    return grid(rows, ["base", *(each.method for each in columns if each)], list(PLACES))


def markdown(device: str, checkpoint: str, results: Sequence[Trained]) -> str:
    """The block to send in."""
    import platform

    import torch

    card = card_and_driver() if device.startswith("cuda") else "CPU"
    lines = [
        f"Finetune {__version__}; {card}; torch {torch.__version__}; {platform.system()}, Python {platform.python_version()}; checkpoint {checkpoint}",
        "",
        "| method | steps | seconds | steps a second | peak memory (computed), GiB | file | host |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in results:
        if each.fault:
            lines.append(f"| {each.method} | FAILED: {each.fault} | | | | | |")
            continue
        peak = f"{each.peak / 2**30:.1f} ({each.computed / 2**30:.1f})" if each.peak else "not told"
        same = "equal" if _SAME in each.host else each.host or "not told"
        pace = each.steps / each.seconds if each.seconds else 0.0
        lines.append(f"| {each.method} | {each.steps} | {each.seconds:.0f} | {pace:.2f} | {peak} | {each.verified} | {same} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Train, write table and grid; 1 when a method failed.

    Raises:
        InputError: no checkpoint, or the WebUI does not answer.
    """
    from lib_finetune.export.picture import write_png

    parser = argparse.ArgumentParser(
        prog="python -m bench acceptance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="Stable Diffusion 1.x checkpoint")
    parser.add_argument("--webui", metavar="URL", help="a running WebUI with --api on this machine, which trains on its loaded checkpoint")
    parser.add_argument("--steps", type=int, help="of each training; the defaults without it")
    parser.add_argument("--resolution", type=int, help="of the training, in pixels; the default without it")
    parser.add_argument("--output-root", type=Path, default=Path("acceptance-output"), metavar="DIR")
    options = parser.parse_args(arguments)
    root = options.output_root.resolve()
    if options.webui is None and (options.checkpoint is None or not options.checkpoint.is_file()):
        raise InputError(
            [Problem("--checkpoint", f"{options.checkpoint or 'no file'} does not exist. Name a checkpoint, or a WebUI by --webui.")]
        )
    trainer: Trainer = InWebui(options.webui) if options.webui else Here(options.checkpoint, root)
    asked = {"training.steps": options.steps, "data.resolution": options.resolution}
    results = run(trainer, root, {path: str(value) for path, value in asked.items() if value})
    table = markdown(trainer.device, options.checkpoint.name if options.checkpoint else "of the WebUI", results)
    (root / "acceptance.md").write_text(table, encoding="utf-8")
    write_png(root / "acceptance.png", paint_grid(trainer, results))
    print(f"{table}\n{root / 'acceptance.md'}\n{root / 'acceptance.png'}")
    return 1 if any(each.fault for each in results) else 0
