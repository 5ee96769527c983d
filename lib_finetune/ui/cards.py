"""The methods side by side, as HTML: likeness, time, file and memory for these images on this card; and the forecast."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from lib_finetune.ui import markup
from lib_finetune.ui.html import button, duration, size
from lib_finetune.ui.status import METHODS as _TITLES

_ASPECTS = ("likeness", "time", "file", "memory", "risk")


def render(advice: Mapping[str, Any], chosen: str) -> str:
    """A card for each method, the recommended one with a star, and the reason beneath.

    Args:
        advice: `MethodAdvisor.cards`.
        chosen: the method that is set.
    """
    best, notes = advice["recommended"], [text for text in (advice["reason"], advice["question"]) if text]
    if not advice["cards"]:  # no checkpoint, so no figures; the methods can be chosen all the same
        return markup.render("cards", cards=_bare(chosen), whys=False, notes=notes)
    if advice["reason"]:
        notes[0] = f"★ {notes[0]}"
    return markup.render("cards", cards=[_card(card, best, chosen) for card in advice["cards"]], whys=True, notes=notes)


def bare(chosen: str) -> str:
    """The methods' names alone."""
    return markup.render("cards", cards=_bare(chosen), whys=False, notes=[])


def _bare(chosen: str) -> list[dict[str, Any]]:
    empty = {"star": "", "rows": [], "line": "", "message": "", "unfit": False}
    return [{**empty, "method": method, "title": title, "chosen": method == chosen} for method, title in _TITLES.items()]


def _card(card: Mapping[str, Any], best: str, chosen: str) -> dict[str, Any]:
    estimate = "" if card["seconds_from"] == "measured" else " (estimate)"
    time = f"{duration(card['seconds'])}{estimate}" if card["seconds"] else "time unknown"
    memory = f"{card['memory_bytes'] / 2**30:.1f} GB memory {'✓' if card['fits'] else '✗'}"
    return {
        "method": card["method"],
        "title": _TITLES[card["method"]],
        "star": " ★" * (card["method"] == best),
        "rows": [time, size(card["file_bytes"]), memory],
        "line": card["likeness"],
        "message": card["message"] if not card["fits"] else "",
        "unfit": not card["fits"],
        "chosen": card["method"] == chosen,
        "why": [(name, card["why"][name]) for name in _ASPECTS],
    }


def forecast(task: Mapping[str, Any] | None) -> str:
    """The last forecast, or the one that is being made."""
    if task is None:
        return ""
    if task["state"] in ("queued", "running"):
        stop = button("Stop", "stop task", task=task["id"])
        return f'<div class="finetune-forecast">Forecast: two steps are being tried out … {stop}</div>'
    if task["state"] == "failed":
        return f'<div class="finetune-problems" role="alert">The forecast could not be made: {escape(task["message"])}</div>'
    lines = "".join(f"<div>{escape(line)}</div>" for line in task["result"].get("lines", ()))
    return f'<div class="finetune-forecast"><b>Forecast</b>{lines}</div>' if lines else ""
