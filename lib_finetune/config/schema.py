"""The settings tree as JSON Schema, for programs that fill in a form."""

from __future__ import annotations

from typing import Any

from lib_finetune.config.codec import VERSION, all_leaves
from lib_finetune.config.fields import Leaf

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of what `codec.from_dict` takes; every setting has a default, so none is required."""
    root: dict[str, Any] = {"type": "object", "title": "Settings", "additionalProperties": False, "properties": {}}
    root["properties"]["version"] = {"type": "integer", "const": VERSION}
    for path, leaf in all_leaves().items():
        place = root
        *sections, name = path.split(".")
        for section in sections:
            empty = {"type": "object", "additionalProperties": False, "properties": {}}
            place = place["properties"].setdefault(section, empty)
        place["properties"][name] = _property(leaf)
    return root


def _property(leaf: Leaf) -> dict[str, Any]:
    about, kind = leaf.about, _TYPES[leaf.type]
    schema: dict[str, Any] = {"title": about.label, "description": about.help, "default": leaf.default}
    schema["type"] = [kind, "null"] if leaf.optional else kind
    if about.allowed() is not None:
        schema["enum"] = list(about.allowed() or ())
    facts = {"minimum": about.low, "maximum": about.high, "x-unit": about.unit, "x-source": about.source}
    return {**schema, **{name: value for name, value in facts.items() if value not in (None, "")}}
