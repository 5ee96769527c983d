"""PNG images and grids of them, written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, PngImagePlugin

from lib_finetune.export.label_font import Font, font_for, wrapped
from lib_finetune.files import write_atomically

_EDGE_PX = 4
_LEAST_TEXT_PX = 11
_TEXT_SHARE = 28
"""An image is so many times as wide as its label is high."""


def write_png(path: Path, image: Image.Image, texts: Mapping[str, str] | None = None) -> None:
    """
    Args:
        texts: keyword → text of the file's text chunks.

    Raises:
        SaveError: the file cannot be written.
    """
    content, about = io.BytesIO(), PngImagePlugin.PngInfo()
    for keyword, text in (texts or {}).items():
        about.add_text(keyword, text)
    image.save(content, format="PNG", pnginfo=about)
    write_atomically(path, content.getvalue())


def grid(rows: Sequence[Sequence[Image.Image]], columns: Sequence[str], names: Sequence[str], below: Sequence[str] = ()) -> Image.Image:
    """Images of one size in rows, with a label above each column, its name above each row, and what is to be known beneath each column.

    Args:
        columns: one label a column; one that is too long continues in the next line.
        names: one label a row.
        below: one text a column, which may have several lines; none for no foot.
    """
    width, height = rows[0][0].size
    font = font_for([*columns, *names, *below], max(_LEAST_TEXT_PX, width // _TEXT_SHARE))
    line_px = _line_px(font)
    heads, feet = ([_lines(text, font, width) for text in texts] for texts in (columns, below))
    titles = [_lines(name, font, width * len(columns)) for name in names]
    head_px, foot_px = (line_px * max(map(len, each), default=0) + _EDGE_PX * bool(each) for each in (heads, feet))
    tops, end = [], head_px
    for lines in titles:
        tops.append(end)
        end += line_px * len(lines) + height
    canvas = Image.new("RGB", (width * len(columns), end + foot_px), "white")
    draw = ImageDraw.Draw(canvas)
    for place, lines in enumerate(heads):
        _write(draw, (place * width, 0), lines, font, "black")
    for top, lines, images in zip(tops, titles, rows, strict=True):
        _write(draw, (0, top), lines, font, "dimgray")
        for place, image in enumerate(images):
            canvas.paste(image, (place * width, top + line_px * len(lines)))
    for place, lines in enumerate(feet):
        _write(draw, (place * width, end), lines, font, "black")
    return canvas


def _lines(text: str, font: Font, width_px: int) -> list[str]:
    return [line for part in text.split("\n") for line in wrapped(part, font, width_px - 2 * _EDGE_PX)]


def _line_px(font: Font) -> int:
    return int(font.getbbox("Ag|")[3]) + _EDGE_PX


def _write(draw: ImageDraw.ImageDraw, corner: tuple[int, int], lines: Sequence[str], font: Font, colour: str) -> None:
    for number, line in enumerate(lines):
        draw.text((corner[0] + _EDGE_PX, corner[1] + number * _line_px(font) + 1), line, fill=colour, font=font)
