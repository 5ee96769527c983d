"""Pieces of HTML that the tab's panels share. No gradio here, so that they are tested as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import quote

_ROUTES = "finetune/v1"


def button(label: str, do: str, *, sure: str = "", primary: bool = False, help_text: str = "", **arguments: Any) -> str:
    """A button that the page's script turns into an action.

    Args:
        do: name of the action.
        sure: a question to be answered first; for what cannot be undone.
        arguments: those of the action.
    """
    kind = "primary" if primary else "secondary"
    title = f' title="{escape(help_text)}"' if help_text else ""
    asks = f' data-sure="{escape(sure)}"' if sure else ""
    data = escape(json.dumps(arguments))
    return f'<button type="button" class="sm {kind} gradio-button finetune-do" data-do="{escape(do)}" data-given="{data}"{asks}{title}>{escape(label)}</button>'


def report_button(key: str, job: str = "") -> str:
    """A button with which the page's script copies the report for an issue.

    Args:
        key: opens the route.
        job: id of the job that it is about.
    """
    title = "versions, GPU, flags, settings without private paths and the last lines of the log, for an issue"
    address = f"{picture_url(key, 'report')}&job={quote(job, safe='')}"
    return f'<button type="button" class="sm secondary gradio-button finetune-report" data-report="{escape(address)}" title="{title}">Copy report</button>'


def question_button(key: str, job: str) -> str:
    """A button that asks whether everything of a training is to be deleted; the page's script fetches the list of what that is.

    Args:
        key: opens the route.
    """
    address = picture_url(key, "jobs", job, "everything")
    kind = "sm secondary gradio-button finetune-question"
    return f'<button type="button" class="{kind}" data-question="{escape(address)}" data-job="{escape(job)}">Delete everything of this training</button>'


def picture_url(key: str, *parts: str) -> str:
    """Address of one of our images, relative to the page so that a WebUI behind a path works too."""
    return f"{_ROUTES}/{'/'.join(quote(part, safe='') for part in parts)}?key={quote(key)}"


def drop(to: str, label: str, key: str, limits: Mapping[str, Any] | None = None) -> str:
    """A field for files, to be chosen or dropped, which the page's script sends to one of our routes.

    The browser's own button, which speaks the browser's language, is out of sight; the keyboard reaches it, and its label stands for it.

    Args:
        to: the route.
        key: proves the page to it.
        limits: for several files: "file" and "drop" in bytes, "files", and "said" when one is passed; "endings" of those that are sent
            whole; None for one file.
    """
    name = f"finetune_drop_{to.replace('/', '_')}"
    more, choose = (" multiple", "Choose files") if limits else ("", "Choose a file")
    data = escape(json.dumps(limits or {}))
    return (
        f'<div class="finetune-drop" data-to="{escape(f"{_ROUTES}/{to}")}" data-key="{escape(key)}" data-limits="{data}">'
        f'<span id="{name}_label">{escape(label)}</span>'
        f'<input type="file" id="{name}" aria-labelledby="{name}_choose {name}_label"{more}>'
        f'<label for="{name}" id="{name}_choose" class="finetune-files-button">{choose}</label>'
        f'<progress hidden max="1" value="0" aria-labelledby="{name}_said"></progress><div id="{name}_said" aria-live="polite"></div></div>'
    )


def table(head: list[str], rows: list[list[str]], label: str) -> str:
    """A table; cells are HTML already."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="finetune-table" aria-label="{escape(label)}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def size(count: int) -> str:
    """Bytes as people say them."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "KB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"


def attributes(values: Mapping[str, str]) -> str:
    """Attributes of an element, escaped."""
    return "".join(f' {name}="{escape(value)}"' for name, value in values.items())


def duration(seconds: float) -> str:
    """Seconds in the words of a person: "40 s", "6 min", "2 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
