"""Extra networks in a text: ``<lora:name:1>`` and its like, which the WebUI takes out of a prompt and applies."""

from __future__ import annotations

import re

TAG = re.compile(r"<(\w+):([^>]+)>")
"""As `modules/extra_networks.py` of the WebUI finds them: any word before the colon, so that those of extensions count too."""


def without_networks(text: str) -> tuple[str, tuple[str, ...]]:
    """The text without tags of extra networks, and those tags; the gap that a tag leaves holds one space and no stray comma."""
    tags = tuple(match.group() for match in TAG.finditer(text))
    if not tags:
        return text, ()
    parts = [" ".join(part.split()) for part in TAG.sub(" ", text).split(",")]
    return ", ".join(part for part in parts if part), tags
