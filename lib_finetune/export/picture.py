"""PNG images and grids of them, written whole or not at all."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from lib_finetune.files import write_atomically

_LABEL_PX = 18
_LINE_PX = 12
_LETTER_PX = 7
"""Of Pillow's own font, which every version has."""


def write_png(path: Path, image: Image.Image) -> None:
    """
    Raises:
        SaveError: the file cannot be written.
    """
    content = io.BytesIO()
    image.save(content, format="PNG")
    write_atomically(path, content.getvalue())


def grid(rows: Sequence[Sequence[Image.Image]], columns: Sequence[str], names: Sequence[str]) -> Image.Image:
    """Images of one size in rows, with a label above each column and, above each row, its name.

    Args:
        columns: one label a column; one that is too long continues in the next line.
        names: one label a row.
    """
    width, height = rows[0][0].size
    labels = [textwrap.wrap(label, max(8, width // _LETTER_PX)) or [""] for label in columns]
    top = _LABEL_PX + _LINE_PX * (max(map(len, labels)) - 1)
    tall = height + _LABEL_PX
    canvas = Image.new("RGB", (width * len(columns), top + tall * len(rows)), "white")
    draw = ImageDraw.Draw(canvas)
    for column, lines in enumerate(labels):
        for number, line in enumerate(lines):
            draw.text((column * width + 4, 3 + number * _LINE_PX), line, fill="black")
    for row, (pictures, name) in enumerate(zip(rows, names, strict=True)):
        draw.text((4, top + row * tall + 3), name, fill="dimgray")
        for column, picture in enumerate(pictures):
            canvas.paste(picture, (column * width, top + row * tall + _LABEL_PX))
    return canvas
