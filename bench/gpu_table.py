"""Which GPU can do which method, computed by the memory model that a run asks before it starts; nothing of it was measured on a GPU.

python -m bench gpus          # prints the table of docs/gpus.md
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import torch

from lib_finetune.config import codec
from lib_finetune.config.settings import METHODS, Settings
from lib_finetune.estimates import memory_plan, method_costs
from lib_finetune.estimates.memory_model import CONTEXT, GIB
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.random_weights import sd15_layout
from lib_finetune.ports.files import Paths

SIZES_GB = (4, 6, 8, 10, 12, 16, 24)
DESKTOP = GIB // 2
"""What Windows and a browser hold of a GPU that shows the desktop."""
RAM = 16 * GIB
_UNET, _TEXT, _VAE = 859_520_964, 123_060_480, 83_653_863
"""Weights of SD1.5's parts."""
_NAMES = {"lora": "LoRA", "textual_inversion": "Textual Inversion", "pivotal_tuning": "Pivotal tuning", "dreambooth": "DreamBooth"}
_FORMS = {"bf16": "RTX 30 and newer", "fp16": "GTX 10 to RTX 20 (no bf16)"}


def table() -> list[str]:
    """The lines of a Markdown table: a row for each size, kind of GPU and way to start the WebUI; a column for each method."""
    rows = [["memory", "GPU", "WebUI", *(_NAMES[method] for method in METHODS)]]
    rows.append(["---"] * len(rows[0]))
    for size in SIZES_GB:
        for form, kind in _FORMS.items():
            for medvram in (False, True):
                row = [f"{size} GB", kind, "`--medvram`" if medvram else "plain"]
                rows.append([*row, *(_cell(method, size, form, medvram=medvram) for method in METHODS)])
    return ["| " + " | ".join(row) + " |" for row in rows]


def _cell(method: str, size_gb: int, form: str, *, medvram: bool) -> str:
    settings = codec.with_values(Settings(), {"method": method, "name": "zxqcat", "data.trigger": "zxq", "data.class_count": "200"}.items())
    with mock.patch("lib_finetune.training.precision.computes_bf16", return_value=form == "bf16"), tempfile.TemporaryDirectory() as folder:
        paths = Paths(*(Path(folder),) * len(Paths.__dataclass_fields__))
        facts = _facts(medvram=medvram)
        free = size_gb * GIB - DESKTOP - CONTEXT - sum(facts.weights.here.values())
        machine = method_costs.Machine(torch.device("cuda"), "GPU", size_gb * GIB, max(1, free), RAM, paths)
        fitting = method_costs.fit(settings, facts, machine)
    if not fitting.fits:
        return "no"
    return ", ".join(["yes", *_chosen(fitting.settings)])


def _chosen(settings: Settings) -> Iterator[str]:
    """What a run switches on by itself."""
    tuning = settings.tuning
    if settings.method == "dreambooth":
        yield f"{tuning.weights} weights"
        if settings.optimizer.name not in ("auto", "adamw"):
            yield settings.optimizer.name
        if tuning.in_backward == "on":
            yield "steps in the backward pass"
        if tuning.host_weights == "exchange":
            yield "models change places"
    if settings.training.gradient_checkpointing:
        yield "gradient checkpointing"


def _facts(*, medvram: bool) -> method_costs.ModelFacts:
    parts = {"unet": 2 * _UNET, "text": 2 * _TEXT, "vae": 2 * _VAE}
    none = dict.fromkeys(parts, 0)
    weights = memory_plan.Weights({"unet": _UNET, "text": _TEXT}, none if medvram else parts, parts if medvram else none)
    stored = {"unet": 2 * _UNET, "text": 2 * _TEXT, "rest": 2 * _VAE}
    return method_costs.ModelFacts(BorrowedModel(sd15_layout()), weights, sum(weights.here.values()), stored)


def main(_arguments: Sequence[str]) -> int:
    """Print the table."""
    print("\n".join(table()))
    return 0
