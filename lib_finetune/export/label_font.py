"""The font of labels on images: one of the system's, for Pillow's own has 256 characters and one size."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TypeAlias

from PIL import ImageFont

Font: TypeAlias = ImageFont.ImageFont | ImageFont.FreeTypeFont
_LATIN = ("DejaVuSans.ttf", "arial.ttf", "Arial.ttf", "LiberationSans-Regular.ttf", "Helvetica.ttc")
_EAST_ASIAN = ("NotoSansCJK-Regular.ttc", "msyh.ttc", "PingFang.ttc", "Hiragino Sans GB.ttc", "simhei.ttf", "wqy-microhei.ttc")
_FIRST_EAST_ASIAN = 0x2E80
"""Where Unicode's blocks of Chinese, Japanese and Korean begin."""


def font_for(texts: Sequence[str], size_px: int) -> Font:
    """A font that has the characters of all texts, as far as the system has one; else Pillow's own, of the size that it has."""
    east_asian = any(ord(character) >= _FIRST_EAST_ASIAN for text in texts for character in text)
    for name in (*_EAST_ASIAN, *_LATIN) if east_asian else (*_LATIN, *_EAST_ASIAN):
        if (font := _font(name, size_px)) is not None:
            return font
    return ImageFont.load_default()


@functools.cache
def _font(name: str, size_px: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size_px)
    except (OSError, ImportError):  # not on this system, or a Pillow without FreeType
        return None


def drawable(text: str, font: Font) -> str:
    """The text, with a ? for what the font cannot draw."""
    if isinstance(font, ImageFont.FreeTypeFont):
        return text
    return text.encode("latin-1", "replace").decode("latin-1")


def wrapped(text: str, font: Font, width_px: int) -> list[str]:
    """The text in lines of at most this width; a word that is wider is cut."""
    lines = [""]
    for word in drawable(text, font).split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width_px:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if lines[-1] and font.getlength(lines[-1] + character) > width_px:
                lines.append("")
            lines[-1] += character
    return lines
