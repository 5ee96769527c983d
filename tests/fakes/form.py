"""What the tab's form holds."""

from __future__ import annotations

from typing import Any

from lib_finetune.config.settings import Settings


def form_values(**values: Any) -> list[Any]:
    """What it holds at first, with other values by the name of the component."""
    from lib_finetune.ui import form

    paths = [path for section in form.sections().values() for path in section]
    names = [*form.TOP, *(path.replace(".", "_") for path in paths)]
    first = dict(zip(names, form.values_of(Settings(), paths), strict=True))
    return [*{**first, **values}.values()]


def place_of(name: str) -> int:
    """Where a component of the first screen stands among the values."""
    from lib_finetune.ui import form

    return list(form.TOP).index(name)
