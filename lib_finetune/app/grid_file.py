"""A comparison grid on disk: one PNG with its parameters in it, as the WebUI writes them, and with all that makes it anew."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from lib_finetune.export.picture import write_png
from lib_finetune.ports.pictures import SAMPLER, SCHEDULER

if TYPE_CHECKING:
    from lib_finetune.app.grid_images import Column, Look, Row

PARAMETERS = "parameters"
"""Keyword of the text that the WebUI's PNG Info shows."""
_OWN = "finetune_grid"
"""Keyword of our own settings, as JSON."""


@dataclass(frozen=True)
class GridSettings:
    """What a grid was made with, to be shown beside it and to make it anew.

    Attributes:
        chosen: "id of a job:step" of its results, or empty where it shows no chosen results.
        weights, seeds: as they were asked for.
        prompts: as they were written; empty for the caption template.
        base: whether the base stands beside them.
        columns: (label, figures) of each.
        rows: (prompt, seed) of each.
    """

    chosen: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    prompts: tuple[str, ...] = ()
    base: bool = True
    columns: tuple[tuple[str, tuple[str, ...]], ...] = ()
    rows: tuple[tuple[str, int], ...] = ()


def write(path: Path, image: Image.Image, settings: GridSettings, parameters: str) -> None:
    """
    Args:
        parameters: see `parameters_of`.

    Raises:
        SaveError: the file cannot be written.
    """
    write_png(path, image, {PARAMETERS: parameters, _OWN: json.dumps(dataclasses.asdict(settings), ensure_ascii=False)})


def parameters_of(columns: Sequence[Column], rows: Sequence[Row], look: Look, first_prompt: str, model: str) -> str:
    """The first image's parameters in the WebUI's own form, and behind them what columns and rows are.

    Args:
        first_prompt: of the first image.
        model: name of the checkpoint.
    """
    facts = {
        "Steps": look.steps,
        "Sampler": SAMPLER,
        "Schedule type": SCHEDULER,
        "CFG scale": f"{look.guidance:g}",
        "Seed": rows[0].seed,
        "Size": f"{look.side}x{look.side}",
        "Model": model,
        **({"Clip skip": columns[0].clip_skip} if columns[0].clip_skip else {}),
        "Script": "Finetune comparison grid",
        "X Values": ", ".join(column.label for column in columns),
        "Y Values": ", ".join(f"{row.prompt} (seed {row.seed})" for row in rows),
    }
    return f"{first_prompt}\n{', '.join(f'{name}: {_quoted(str(value))}' for name, value in facts.items() if value != '')}"


def _quoted(text: str) -> str:
    """As the WebUI writes a value: in quotes where it holds what separates values."""
    return json.dumps(text, ensure_ascii=False) if any(sign in text for sign in ',:\n"') else text


def settings_in(path: Path) -> dict[str, Any]:
    """`GridSettings` of a file as plain values; empty where it has none: older grids, files that somebody changed."""
    try:
        with Image.open(path) as image:
            values = json.loads(image.info.get(_OWN, "{}"))
    except (OSError, ValueError, SyntaxError):  # not readable, or no image of a form that is known
        return {}
    names = [field.name for field in dataclasses.fields(GridSettings)]
    if not isinstance(values, dict) or not all(isinstance(values.get(name), bool if name == "base" else list) for name in names):
        return {}
    columns, rows = values["columns"], values["rows"]
    whole = all(isinstance(pair, list) and len(pair) == 2 for pair in (*columns, *rows))
    return {name: values[name] for name in names} if whole else {}
