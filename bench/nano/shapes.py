"""The shapes of the drawn world as signed distances, so that one formula gives fills, outlines and smooth edges.

All functions take coordinates in units of the object's radius and return distances in the same unit, negative
inside. Lengths beside corners are those of the half planes (not of the rounded exact distance): enough for edges.
Formulas after Inigo Quilez, "2D distance functions", https://iquilezles.org/articles/distfunctions2d/.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Grid = np.ndarray

_TRIANGLE_INRADIUS = 0.56
_STAR_INNER = 0.45
_CROSS_ARM = 0.34


def circle(x: Grid, y: Grid) -> Grid:
    """Distance to the disc of radius 0.9."""
    return np.hypot(x, y) - 0.9


def ring(x: Grid, y: Grid) -> Grid:
    """Distance to a ring with a hole of almost half its width."""
    return np.abs(np.hypot(x, y) - 0.72) - 0.23


def square(x: Grid, y: Grid) -> Grid:
    """Distance to the square with half side 0.8."""
    return np.maximum(np.abs(x), np.abs(y)) - 0.8


def triangle(x: Grid, y: Grid) -> Grid:
    """Distance to the equilateral triangle with its point upwards."""
    y = y - 0.2
    return np.maximum(y, np.abs(x) * (3**0.5 / 2) - y * 0.5) - _TRIANGLE_INRADIUS


def star(x: Grid, y: Grid) -> Grid:
    """Distance to the five-pointed star: the plane is folded into one tenth, whose edge is one line."""
    sector = 2 * np.pi / 5
    angle = np.arctan2(x, -y)
    folded = np.abs((angle + sector / 2) % sector - sector / 2)
    radius = np.hypot(x, y)
    inner_x, inner_y = _STAR_INNER * np.cos(sector / 2), _STAR_INNER * np.sin(sector / 2)
    normal = np.array([inner_y, 1.0 - inner_x]) / np.hypot(inner_y, 1.0 - inner_x)
    return (radius * np.cos(folded) - 1.0) * normal[0] + radius * np.sin(folded) * normal[1]


def heart(x: Grid, y: Grid) -> Grid:
    """Distance to the heart: two discs on the upper sides of a square that stands on its corner."""
    y = y + 0.12
    x = np.abs(x)
    diagonal = np.maximum(np.abs(x + y), np.abs(x - y)) * 0.5**0.5 - 0.58
    return np.minimum(diagonal, np.hypot(x - 0.41, y + 0.41) - 0.58)


def cross(x: Grid, y: Grid) -> Grid:
    """Distance to the upright cross of two bars."""
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.maximum(x, y) - 0.92, np.minimum(x, y) - _CROSS_ARM)


def moon(x: Grid, y: Grid) -> Grid:
    """Distance to the crescent: a disc without a second disc to its right."""
    return np.maximum(np.hypot(x + 0.1, y) - 0.95, 0.75 - np.hypot(x - 0.38, y))


SHAPES: dict[str, Callable[[Grid, Grid], Grid]] = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "star": star,
    "heart": heart,
    "cross": cross,
    "ring": ring,
    "moon": moon,
}
