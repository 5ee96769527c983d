"""The tab's HTML, made from the files in ``templates/``: what is filled in is escaped. No gradio here, so that it is tested as text."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lib_finetune.ui import html

FOLDER = Path(__file__).parent / "templates"


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(button=_button, report_button=_report_button, question_button=_question_button, picture_url=html.picture_url)
    environment.filters.update(
        size=html.size, duration=html.duration, file_name=lambda path: Path(path).name, stem=lambda path: Path(path).stem
    )
    return environment


def _button(label: str, do: str, **options: Any) -> Markup:
    """See `html.button`, which escapes by itself."""
    return Markup(html.button(label, do, **options))


def _report_button(key: str, job: str = "") -> Markup:
    """See `html.report_button`."""
    return Markup(html.report_button(key, job))


def _question_button(key: str, job: str) -> Markup:
    """See `html.question_button`."""
    return Markup(html.question_button(key, job))


def render(name: str, **values: Any) -> str:
    """A template filled in.

    Args:
        name: of the file, without its ending.
    """
    return _environment().get_template(f"{name}.html").render(**values).strip()
