"""Comparison grids as HTML: the form of a new one, what it can show, and those that were made. No gradio here, so that it is tested as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from lib_finetune.ui import markup, tool_forms
from lib_finetune.ui.html import picture_url
from lib_finetune.ui.status import METHODS

BASE = "base"
"""Chosen beside results: the loaded model without any of them."""
FORM = "grid"
"""What the form is called where its problems are kept."""
SHOWN = 60
"""So many grids have a card."""
_FIELDS = {"weights": "Weights", "seeds": "Seeds", "prompts": "Prompts", "chosen": "Results and snapshots"}


def form() -> str:
    """The fields of a new grid; results and snapshots come with the refresh, and the page's script brings them here."""
    return markup.render("grid_form", form=FORM, labels=_FIELDS)


def offered(runs: Sequence[Mapping[str, Any]], problems: Sequence[tuple[str, str]], key: str) -> str:
    """Results and snapshots to choose from, and what was wrong with what this page asked for.

    Args:
        runs: `ComparisonGrids.offered`.
        problems: (field, message).
        key: opens the images.
    """
    shown = [{**run, "title": METHODS[run["method"]], "cover": picture_url(key, "jobs", run["job"], "cover")} for run in runs]
    answer = Markup(tool_forms.state(None, problems, _FIELDS))
    return markup.render("grid_choices", runs=shown, base=BASE, form=FORM, answer=answer)


def made(grids: Sequence[tuple[str, Mapping[str, Any]]], tasks: Sequence[Mapping[str, Any]], key: str) -> str:
    """Grids as cards, newest first, and those that are being made.

    Args:
        grids: (file, `ComparisonGrids.settings`).
        tasks: of this session, `BackgroundTask.status`.
    """
    going = [
        {"id": task["id"], "done": f"{task['done']} of {task['total']} images" if task["total"] else "waits for its turn"}
        for task in tasks
        if task["kind"] == "sheet" and task["state"] in ("queued", "running")
    ]
    failed = [task["message"] for task in tasks[-1:] if task["kind"] == "sheet" and task["state"] == "failed"]
    return markup.render("grids", grids=[_card(file, settings, key) for file, settings in grids[:SHOWN]], going=going, failed=failed)


def _card(file: str, settings: Mapping[str, Any], key: str) -> dict[str, Any]:
    address = picture_url(key, "sheets", file)
    card: dict[str, Any] = {"file": file, "name": file.removesuffix(".png"), "full": address, "small": f"{address}&small=1"}
    card |= {"columns": [], "has_figures": False, "again": ""}
    if not settings:
        return card
    again = {
        "chosen": [*([BASE] if settings["base"] else []), *map(str, settings["chosen"])],
        "weights": ", ".join(f"{weight:g}" if isinstance(weight, float) else str(weight) for weight in settings["weights"]),
        "seeds": ", ".join(map(str, settings["seeds"])),
        "prompts": "\n".join(map(str, settings["prompts"])),
    }
    columns = [{"label": str(label), "figures": [str(figure) for figure in figures]} for label, figures in settings["columns"]]
    return {
        **card,
        "columns": columns,
        "has_figures": any(column["figures"] for column in columns),
        "rows": [{"prompt": str(prompt), "seed": seed} for prompt, seed in settings["rows"]],
        "again": json.dumps(again) if settings["chosen"] else "",
    }
