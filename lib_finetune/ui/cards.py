"""The methods side by side, as HTML: likeness, time, file and memory for these images on this card; and the forecast."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from lib_finetune.ui.html import button, duration, size
from lib_finetune.ui.status import METHODS as _TITLES


def render(advice: Mapping[str, Any], chosen: str) -> str:
    """A card for each method, the recommended one with a star, and the reason beneath.

    Args:
        advice: `MethodAdvisor.cards`.
        chosen: the method that is set.
    """
    best = advice["recommended"]
    if not advice["cards"]:  # no checkpoint, so no figures; the methods can be chosen all the same
        return bare(chosen) + f'<div class="finetune-reason">{escape(advice["reason"])}</div>'
    cards = "".join(_card(card, card["method"] == best, card["method"] == chosen) for card in advice["cards"])
    reason = f'<div class="finetune-reason">★ {escape(advice["reason"])}</div>' if advice["reason"] else ""
    question = f'<div class="finetune-reason">{escape(advice["question"])}</div>' if advice["question"] else ""
    return f'<div class="finetune-cards" role="radiogroup" aria-label="method">{cards}</div>{reason}{question}'


def bare(chosen: str) -> str:
    """The methods' names alone."""
    cards = "".join(_frame(method, method == chosen, f"<b>{title}</b>") for method, title in _TITLES.items())
    return f'<div class="finetune-cards" role="radiogroup" aria-label="method">{cards}</div>'


def _card(card: Mapping[str, Any], best: bool, chosen: bool) -> str:
    time = duration(card["seconds"]) if card["seconds"] else "time: press Forecast"
    guessed = " (guessed)" if card["seconds_from"] == "guessed" else ""
    memory = f"{card['memory_bytes'] / 2**30:.1f} GB memory {'✓' if card['fits'] else '✗'}"
    rows = "".join(f"<div>{escape(line)}</div>" for line in (time + guessed, size(card["file_bytes"]), memory))
    message = f'<div class="finetune-flag">{escape(card["message"])}</div>' if card["message"] and not card["fits"] else ""
    title = f"<b>{_TITLES[card['method']]}{' ★' * best}</b>"
    likeness = f'<div class="finetune-likeness">{escape(card["likeness"])}</div>'
    return _frame(card["method"], chosen, f"{title}{rows}{likeness}{message}", " finetune-unfit" * (not card["fits"]))


def _frame(method: str, chosen: bool, content: str, more: str = "") -> str:
    kind = "finetune-card" + " finetune-chosen" * chosen + more
    return (
        f'<div class="{kind}" data-method="{escape(method)}" role="radio" tabindex="0" aria-checked="{str(chosen).lower()}">{content}</div>'
    )


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
