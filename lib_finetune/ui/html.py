"""Pieces of HTML that the tab's panels share. No gradio here, so that they are tested as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import quote

_ROUTES = "finetune/v1"


def button(label: str, do: str, *, sure: str = "", primary: bool = False, help_text: str = "", **given: Any) -> str:
    """A button that the page's script turns into an action.

    Args:
        do: name of the action.
        sure: a question to be answered first; for what cannot be undone.
        given: what the action is told.
    """
    kind = "primary" if primary else "secondary"
    title = f' title="{escape(help_text)}"' if help_text else ""
    asks = f' data-sure="{escape(sure)}"' if sure else ""
    told = escape(json.dumps(given))
    return f'<button type="button" class="sm {kind} gradio-button finetune-do" data-do="{escape(do)}" data-given="{told}"{asks}{title}>{escape(label)}</button>'


def picture_url(key: str, *parts: str) -> str:
    """Address of one of our pictures, relative to the page so that a WebUI behind a path works too."""
    return f"{_ROUTES}/{'/'.join(quote(part, safe='') for part in parts)}?key={quote(key)}"


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
