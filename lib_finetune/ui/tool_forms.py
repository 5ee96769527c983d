"""The forms of the tools and what became of them, as HTML. No gradio here, so that it is tested as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lib_finetune.app.lora_tools import EXTRACT, PRECISIONS, RESIZE
from lib_finetune.ui import markup

_LABELS = {
    "checkpoint": "DreamBooth result",
    "base": "Base checkpoint",
    "lora": "LoRA",
    "rank": "Rank, at most",
    "share": "Share of the change to keep",
    "name": "Name",
    "precision": "Precision",
}
_DOING = {EXTRACT: "{} of {} layers are compared", RESIZE: "{} of {} layers are resized"}


def forms() -> str:
    """The fields of each tool, its button, and the place for what becomes of it."""
    return markup.render("tools", tools=(EXTRACT, RESIZE), labels=_LABELS, precisions=PRECISIONS)


def answers(states: Mapping[str, str], choices: Mapping[str, Sequence[str]]) -> str:
    """What the page's script brings to the forms: what became of each tool, and what the fields propose.

    Args:
        states: tool → `state`.
        choices: `LoraTools.choices`.
    """
    return markup.render("tool_answers", states={tool: Markup(state) for tool, state in states.items()}, choices=choices)


def state(task: Mapping[str, Any] | None, problems: Sequence[tuple[str, str]], labels: Mapping[str, str] = _LABELS) -> str:
    """What is wrong with what was asked, else how far the last task of a tool is, and what it made.

    Args:
        task: `BackgroundTask.status`.
        problems: (field, message).
        labels: of the fields.
    """
    wrong = [{"field": field, "label": labels.get(field, field), "message": message} for field, message in problems]
    share = 100 * task["done"] / task["total"] if task and task["total"] else 0
    doing = _DOING[task["kind"]].format(task["done"], task["total"]) if task and task["total"] else "waits for its turn"
    call = f"<lora:{Path(task['result'].get('file', '')).stem}:1>" if task else ""
    return markup.render("tool_state", task=task, wrong=wrong, share=share, doing=doing, call=call)
