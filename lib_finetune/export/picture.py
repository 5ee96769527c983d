"""PNG pictures and grids of them, written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from lib_finetune.files import write_atomically

_LABEL_PX = 18


def write_png(path: Path, image: Image.Image) -> None:
    """
    Raises:
        SaveError: the file cannot be written.
    """
    content = io.BytesIO()
    image.save(content, format="PNG")
    write_atomically(path, content.getvalue())


def grid(rows: Sequence[Sequence[Image.Image]], columns: Sequence[str], names: Sequence[str]) -> Image.Image:
    """Pictures of one size in rows, with a label above each column and, above each row, its name.

    Args:
        columns: one label a column.
        names: one label a row.
    """
    width, height = rows[0][0].size
    tall = height + _LABEL_PX
    sheet = Image.new("RGB", (width * len(columns), _LABEL_PX + tall * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, label in enumerate(columns):
        draw.text((column * width + 4, 3), label, fill="black")
    for row, (pictures, name) in enumerate(zip(rows, names, strict=True)):
        top = _LABEL_PX + row * tall
        draw.text((4, top + 3), name, fill="dimgray")
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (column * width, top + _LABEL_PX))
    return sheet
