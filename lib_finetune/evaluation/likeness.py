"""Likeness: how much alike the coarse structure of images is, by the correlation of small normalised thumbnails."""

from __future__ import annotations

import numpy as np
from PIL import Image

CELLS = 16
"""Cells of a thumbnail along each side: coarse enough to forgive a shift by a thirtieth of the image, fine enough to tell poses apart."""


def thumbnails(pictures: list[Image.Image]) -> np.ndarray:
    """The centre square of each image on a coarse grid, its mean taken away and its length made one: [n, 768].

    A plain image without any structure becomes zeros and is like none.
    """
    return np.stack([_normalised(_cells(picture)) for picture in pictures])


def _cells(picture: Image.Image) -> np.ndarray:
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    small = picture.convert("RGB").resize((CELLS, CELLS), Image.Resampling.BOX, box=(left, top, left + side, top + side))
    return np.asarray(small, dtype=np.float64)


def _normalised(cells: np.ndarray) -> np.ndarray:
    centred = (cells - cells.mean((0, 1))).reshape(-1)
    length = np.linalg.norm(centred)
    return centred / length if length > _FLAT else np.zeros_like(centred)


_FLAT = 1.0  # of an image whose cells differ by rounding only


def alike(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlation of paired thumbnails, −1 … 1: [n]."""
    return (first * second).sum(1)


def nearest(pictures: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Correlation of every thumbnail with the one of ``others`` that it is most like: [n]."""
    return (pictures @ others.T).max(1)


def copying(pictures: np.ndarray, training: np.ndarray, held: np.ndarray) -> float | None:
    """How much nearer images lie to their nearest training image than another image of the subject would: 0 not at all, 1 copies.

    The yardstick is the nearest held-out image where there are some, and always the likeness that is usual among the training
    images themselves (the median of each one's nearest other), so that photographs of one series are not blamed on the model.

    Args:
        images, training, held: thumbnails; ``held`` may be empty.

    Returns:
        The mean over the images, or None where there is no yardstick (a single training image and none held out).
    """
    if len(training) < 2 and not len(held):
        return None
    usual = _usual(training) if len(training) > 1 else -1.0
    yardstick = np.maximum(nearest(pictures, held), usual) if len(held) else np.full(len(pictures), usual)
    closeness = (nearest(pictures, training) - yardstick) / np.maximum(1 - yardstick, _ROOM)
    return float(np.clip(closeness, 0, 1).mean())


_ROOM = 0.02
"""Between a yardstick and identity; where training images are copies of each other, nothing can be told from likeness."""


def _usual(training: np.ndarray) -> float:
    others = training @ training.T
    np.fill_diagonal(others, -1.0)
    return float(np.median(others.max(1)))
