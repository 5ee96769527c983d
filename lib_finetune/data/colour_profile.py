"""An ICC profile made of primaries, white and a curve, for images that declare these alone."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

SRGB_PRIMARIES = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
SRGB_WHITE = (0.3127, 0.3290)
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""IEC 61966-2-1, as parameters of the curve: (a x + b) ** gamma from d on, c x below."""
_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def matrix_profile(primaries: Sequence[float], white: Sequence[float], curve: Sequence[float]) -> bytes:
    """A profile of the form that ICC.1:2010 calls three-component matrix-based.

    Args:
        primaries: x and y of red, green and blue.
        white: x and y.
        curve: (gamma,), or the five parameters as in `SRGB_CURVE`.

    Raises:
        ValueError: these are no colours.
    """
    columns = _colorants(primaries, white).T
    tags = {name: b"XYZ \0\0\0\0" + _fixed(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
    tone = b"para\0\0\0\0" + struct.pack(">HH", 0 if len(curve) == 1 else 3, 0) + _fixed(curve)
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), tone)
    table, body, place = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4sII", name, place + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s12s4s", place + len(body), b"\0" * 4, 0x04200000, b"mntr", b"RGB ", b"XYZ ", b"\0" * 12, b"acsp")
    header += b"\0" * 28 + _fixed(_D50) + b"\0" * 48
    return header + struct.pack(">I", len(tags)) + table + body


def _colorants(primaries: Sequence[float], white: Sequence[float]) -> np.ndarray:
    """XYZ of the primaries under D50, a column each (Lindbloom, "RGB/XYZ matrices"; Bradford's adaptation)."""
    points = [*zip(primaries[::2], primaries[1::2], strict=True), tuple(white)]
    if len(points) != 4 or any(y <= 0 for _, y in points):
        raise ValueError(f"{points} are no colours")
    *columns, light = (np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in points)
    matrix = np.stack(columns, axis=1)
    if abs(np.linalg.det(matrix)) < 1e-6:
        raise ValueError("the primaries lie on a line")
    matrix = matrix * np.linalg.solve(matrix, light)
    scale = (_BRADFORD @ np.array(_D50)) / (_BRADFORD @ light)
    return np.asarray(np.linalg.solve(_BRADFORD, scale[:, None] * (_BRADFORD @ matrix)))


def _fixed(numbers: Sequence[float] | np.ndarray) -> bytes:
    return b"".join(struct.pack(">i", round(float(number) * 65536)) for number in numbers)


ADOBE_RGB = matrix_profile((0.64, 0.33, 0.21, 0.71, 0.15, 0.06), SRGB_WHITE, (563 / 256,))
"""Adobe RGB (1998)."""
