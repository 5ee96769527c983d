"""The reference of all settings, as text."""

from __future__ import annotations

from lib_finetune.config.codec import all_leaves
from lib_finetune.config.fields import Leaf


def describe() -> str:
    """One paragraph a setting: path, type, default, range or choices, help and source."""
    return "\n\n".join(_paragraph(leaf) for leaf in all_leaves().values())


def _paragraph(leaf: Leaf) -> str:
    about = leaf.about
    facts = [
        leaf.type.__name__ + (" or auto" if leaf.optional else ""),
        f"default {'auto' if leaf.default is None else repr(leaf.default)}",
    ]
    if about.low is not None and about.high is not None:
        facts.append(f"{about.low:.10g} to {about.high:.10g}")
    allowed = about.allowed()
    if allowed is not None:
        facts.append("one of " + ", ".join(str(choice) for choice in allowed))
    if about.unit:
        facts.append(about.unit)
    lines = [f"{leaf.path}  ({'; '.join(facts)})", f"    {about.help}"]
    if about.source:
        lines.append(f"    Source: {about.source}.")
    return "\n".join(lines)
