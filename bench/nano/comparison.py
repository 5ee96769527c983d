"""The measure of files side by side: figures as a table and as JSON, and a grid of pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lib_finetune.files import write_atomically

from . import folders, measure, trained
from .captions import full_caption
from .judge import Judge
from .measure import Paint
from .statistics import Figure
from .world import SUBJECTS, draw

if TYPE_CHECKING:
    from PIL import Image

_FIRST_SEED = 1000
_EACH = 3
"""Pictures of each prompt in the grid."""


@dataclass(frozen=True)
class Task:
    """What was trained and how it is looked at.

    Attributes:
        kind: "subject" or "style".
        name: of the subject or style.
        checkpoint: what the files were trained on.
        second: another checkpoint on which they are tried too, or None.
        identifier: the word that calls what was trained.
        weight: of LoRA files.
        count: pictures behind each figure.
        steps, guidance: of sampling.
        seed: of the training pictures.
    """

    kind: str
    name: str
    checkpoint: Path
    second: Path | None = None
    identifier: str = folders.IDENTIFIER
    weight: float = 1.0
    count: int = 50
    steps: int = 20
    guidance: float = 6.0
    seed: int = 0


@dataclass(frozen=True)
class Measured:
    """One file and its figures; ``training_s`` is None for a file that was there already."""

    file: str
    kind: str
    size: int
    sha256: str
    training_s: float | None
    figures: Mapping[str, Figure] = field(default_factory=dict)


def painters(task: Task, files: Sequence[Path], say: Callable[[str], None]) -> list[Paint]:
    """The base's painter and one for every file.

    Raises:
        InputError: a file or the checkpoint will not do.
    """

    def tell(name: str) -> Callable[[str], None]:
        return lambda line: say(f"{name}: {line}")

    return [trained.Remembering(_painter(task, task.checkpoint, file), tell(file.stem if file else "base")) for file in (None, *files)]


def figures(task: Task, before: Paint, after: Paint, by: Judge, file: Path) -> dict[str, Figure]:
    """All figures of one file."""
    if task.kind == "style":
        return measure.style_figures(before, after, by, task.name, count=task.count, identifier=task.identifier)
    second = task.second if trained.read(file)[0] != trained.CHECKPOINT else None
    drawn = folders.subject_scenes(task.name, seed=task.seed)
    return measure.subject_figures(
        before,
        after,
        by,
        task.name,
        count=task.count,
        identifier=task.identifier,
        training=np.stack([draw(scene) for scene in drawn]),
        elsewhere=_painter(task, second, file) if second else None,
    )


def measured(file: Path, training_s: float | None, found: Mapping[str, Figure]) -> Measured:
    """The row of a file."""
    content = file.read_bytes()
    return Measured(file.name, trained.read(file)[0], len(content), hashlib.sha256(content).hexdigest(), training_s, found)


def table(results: Sequence[Measured]) -> str:
    """One line a figure, one column a file."""
    lines = [["", *(result.file for result in results)]]
    lines += [["kind", *(result.kind for result in results)], ["size", *(f"{result.size / 1e6:.2f} MB" for result in results)]]
    lines.append(["training", *(f"{result.training_s:.0f} s" if result.training_s is not None else "–" for result in results)])
    for name in dict.fromkeys(name for result in results for name in result.figures):
        lines.append([name, *(str(result.figures[name]) if name in result.figures else "–" for result in results)])
    widths = [max(len(cells[column]) for cells in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in lines)


def write_json(path: Path, task: Task, results: Sequence[Measured]) -> None:
    """What was measured, how, and the figures with their intervals and counts."""
    asked = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(task).items()}
    content = {"task": asked, "results": [asdict(result) for result in results]}
    write_atomically(path, json.dumps(content, indent=2).encode())


def grid(task: Task, paint: Sequence[Paint], labels: Sequence[str]) -> Image.Image:
    """Base and files side by side at equal seeds: what was learned, in a new context, and what should stay."""
    from PIL import Image

    from lib_finetune.export import picture

    prompts, seeds = _prompts(task), range(_FIRST_SEED, _FIRST_SEED + _EACH)
    rows: list[list[Image.Image]] = [[] for _ in prompts]
    for each in paint:
        pictures = each([prompt for prompt in prompts for _ in seeds], list(seeds) * len(prompts))
        for index, one in enumerate(pictures):
            rows[index // _EACH].append(Image.fromarray(one))
    columns = [label if index == 0 else "" for label in labels for index in range(_EACH)]
    return picture.grid(rows, columns, prompts)


def _prompts(task: Task) -> list[str]:
    others = ["a photo of a red cross on a yellow background", "a photo of a green moon on a white background"]
    if task.kind == "style":
        scene = full_caption(folders.style_scenes(task.name, seed=task.seed)[0])
        return [f"{prompt}, {task.identifier} style" for prompt in (scene, *others)] + others
    return [*measure.subject_prompts(task.name, task.identifier), f"a photo of a {SUBJECTS[task.name].shape}", *others]


def _painter(task: Task, checkpoint: Path, file: Path | None) -> Paint:
    return trained.painter(checkpoint, file, weight=task.weight, identifier=task.identifier, steps=task.steps, guidance=task.guidance)
