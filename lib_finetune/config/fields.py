"""A setting: a dataclass field that knows its help, unit, range and when it applies."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

_KEY = "finetune"


@dataclass(frozen=True)
class About:
    """What is known of a setting besides its name, type and default.

    Attributes:
        label: short name for the tab.
        help: one line; what it does and what a change brings.
        unit: "steps", "px", "share" … or "".
        low, high: inclusive range of a number, or None.
        choices: the allowed words, or a function giving them (open sets), or None.
        when: says for the whole tree of settings whether this setting applies; None: always.
            The tree's type is left open here: the tree is built from these fields, not the other way round.
        source: where the default comes from, or "".
    """

    label: str
    help: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] | Callable[[], tuple[Any, ...]] | None = None
    when: Callable[[Any], bool] | None = None
    source: str = ""

    def allowed(self) -> tuple[Any, ...] | None:
        """The allowed words now, or None for any."""
        return self.choices() if callable(self.choices) else self.choices


def setting(default: Any, label: str, explained: str, **about: Any) -> Any:
    """A dataclass field of a settings section; ``explained`` is `About.help`, keyword arguments as in `About`."""
    return dataclasses.field(default=default, metadata={_KEY: About(label, explained, **about)})


@dataclass(frozen=True)
class Leaf:
    """One setting of the tree: its dotted path, plain type, whether None is allowed (automatic), default, and `About`."""

    path: str
    type: type
    optional: bool
    default: Any
    about: About


def _plain(annotation: Any) -> tuple[type, bool]:
    """``float | None`` → (float, True)."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
        return kinds[0], True
    return annotation, False


def leaves(section: type, prefix: str = "") -> Iterator[Leaf]:
    """All settings below ``section``, in order of definition."""
    hints = typing.get_type_hints(section)
    for entry in dataclasses.fields(section):
        kind, optional = _plain(hints[entry.name])
        path = prefix + entry.name
        if dataclasses.is_dataclass(kind):
            yield from leaves(kind, path + ".")
        else:
            yield Leaf(path, kind, optional, entry.default, entry.metadata[_KEY])


def value_at(settings: Any, path: str) -> Any:
    """The value at a dotted path."""
    for part in path.split("."):
        settings = getattr(settings, part)
    return settings


def replaced(settings: Any, path: str, value: Any) -> Any:
    """A copy of ``settings`` with the value at a dotted path exchanged."""
    head, _, rest = path.partition(".")
    inner = replaced(getattr(settings, head), rest, value) if rest else value
    return dataclasses.replace(settings, **{head: inner})
