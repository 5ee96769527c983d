"""A look at an image: what a person should know about it before training, and which other images it repeats."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from PIL import Image

from lib_finetune.data.images import Marks, UnreadablePictureError, decode, marks, read

_HASH_PX = 8
NEAR_BITS = 12
"""Of 128: how far two difference hashes may lie apart for two images to count as one. Of images that have nothing in common
about half of the bits differ; saving again, scaling, a mild change of brightness and cutting off a narrow border move up to 7."""
NEAR_COLOURS = 16.0
"""Levels of 255 that the colours of two such images may differ by on average. Plain images have alike hashes whatever their colour."""
_NORMAL_PX = 512
_TILES = 4
BLURRED = 30.0
"""Variance of the Laplacian, in squared levels, that the sharpest of 16 tiles must reach in an image of about 512 × 512 px.

That size, because it is what SD1.5 sees. The sharpest tile, because a portrait before a soft background is sharp where it matters, and
a drawing with few lines has wide plain parts. The figure: noise with the spectra of photographs (amplitude 1/f to
1/f^1.2) lies above 500, and below 30 when a Gaussian of 2 px has gone over it, which leaves no detail finer than a hundredth of the image.
"""
T = TypeVar("T")


@dataclass(frozen=True)
class ImageLook:
    """What a look at one image finds.

    Attributes:
        marks: see `images.Marks`.
        sharpness: see `BLURRED`.
        hash: difference hash, 128 bit: whether each of 8 × 8 cells is brighter than its neighbour, to the right and below.
        colours: mean colours of 4 × 4 cells, 0..255.
    """

    marks: Marks
    sharpness: float
    hash: int
    colours: tuple[int, ...]

    @property
    def blurred(self) -> bool:
        """Whether no part of the image is sharp."""
        return self.sharpness < BLURRED

    def resembles(self, other: ImageLook) -> bool:
        """Whether the two are nearly the same image; mirrored or cut copies are not found."""
        if (self.hash ^ other.hash).bit_count() > NEAR_BITS:
            return False
        return bool(np.abs(np.subtract(self.colours, other.colours)).mean() <= NEAR_COLOURS)


def look_at(path: Path) -> ImageLook | None:
    """Look at an image file; None where it cannot be read."""
    try:
        data = read(path)
        image = decode(data)
        return ImageLook(marks(data), sharpness(image), _hash(image), _colours(image))
    except (OSError, UnreadablePictureError):
        return None


def sharpness(image: Image.Image) -> float:
    """Variance of the Laplacian in the sharpest tile of the image, brought down to about 512 × 512 px (Pech-Pacheco et al., 2000).

    A smaller image is not enlarged, because that would blur it; another sentence says that it is small.
    """
    scale = min(1.0, _NORMAL_PX / (image.width * image.height) ** 0.5)
    size = (max(3 * _TILES, round(image.width * scale)), max(3 * _TILES, round(image.height * scale)))
    grey = np.asarray(image.convert("L").resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    tiles = (tile for rows in np.array_split(laplacian, _TILES) for tile in np.array_split(rows, _TILES, axis=1))
    return float(max(tile.var() for tile in tiles))


def _hash(image: Image.Image) -> int:
    """After Krawetz, "Kind of Like That", 2013, in both directions."""
    side = _HASH_PX + 1
    cells = np.asarray(image.convert("L").resize((side, side), Image.Resampling.BOX), dtype=np.int16)
    brighter = np.concatenate([(cells[:-1, 1:] > cells[:-1, :-1]).ravel(), (cells[1:, :-1] > cells[:-1, :-1]).ravel()])
    return int.from_bytes(np.packbits(brighter).tobytes(), "big")


def _colours(image: Image.Image) -> tuple[int, ...]:
    cells = np.asarray(image.resize((4, 4), Image.Resampling.BOX))
    return tuple(int(value) for value in cells.ravel())


def alike(looks: Sequence[ImageLook | None]) -> list[list[int]]:
    """For each image, the places of the others that are nearly the same."""
    twins: list[list[int]] = [[] for _ in looks]
    for first, own in enumerate(looks):
        for second in range(first + 1, len(looks)):
            other = looks[second]
            if own and other and own.resembles(other):
                twins[first].append(second)
                twins[second].append(first)
    return twins


_ENOUGH = 4
"""Images of which it says something that all look alike."""
_SAME_GROUND, _SAME_LIGHT, _SAME_TONE, _SAME_SHAPE = 14.0, 10.0, 8.0, 30
"""Levels of 255 from the median of all images' border colours; spread of brightness; spread of red against blue; bits of 128 from what most have.

Of 300 draws of eight photo-like noises under tints of any colour none came below 29 levels, 10, 14 and 47 bits.
"""
BACKGROUND, LIGHT, POSE = "backgrounds", "light", "poses or framing"


def common_traits(looks: Sequence[ImageLook | None]) -> list[str]:
    """Which of `BACKGROUND`, `POSE` and `LIGHT` look alike in all images, by small colour statistics: these see neither objects nor people.

    The border of 4 × 4 cells stands for the background, the difference hash for pose and framing, mean brightness and tone for the light.
    Fewer than four images, or one that cannot be read, say nothing.
    """
    known = [look for look in looks if look is not None]
    if len(known) < max(_ENOUGH, len(looks)):
        return []
    cells = np.array([look.colours for look in known], dtype=np.float64).reshape(-1, 4, 4, 3)
    border = cells[:, np.pad(np.zeros((2, 2), dtype=bool), 1, constant_values=True)]
    from_median = np.abs(border - np.median(border, axis=0)).mean(axis=(1, 2))
    bits = np.array([[look.hash >> place & 1 for place in range(128)] for look in known])
    from_most = (bits != (bits.mean(axis=0) > 0.5)).sum(axis=1)
    brightness = (cells @ (0.299, 0.587, 0.114)).mean(axis=(1, 2))
    tone = (cells[..., 0] - cells[..., 2]).mean(axis=(1, 2))
    holds = {
        BACKGROUND: from_median.max() <= _SAME_GROUND,
        POSE: from_most.max() <= _SAME_SHAPE,
        LIGHT: brightness.std() <= _SAME_LIGHT and tone.std() <= _SAME_TONE,
    }
    return [trait for trait, alike_in_all in holds.items() if alike_in_all]


class Remembered(Generic[T]):
    """A function of a file that is computed again only when the file's time or size has changed. Any thread."""

    def __init__(self, compute: Callable[[Path], T]) -> None:
        self._compute = compute
        self._known: dict[Path, tuple[tuple[int, int], T]] = {}
        self._lock = threading.Lock()

    def __call__(self, path: Path) -> T:
        """The value for a file."""
        try:
            facts = path.stat()
        except OSError:
            return self._compute(path)
        state = (facts.st_mtime_ns, facts.st_size)
        with self._lock:
            known = self._known.get(path)
        if known is None or known[0] != state:
            known = (state, self._compute(path))
            with self._lock:
                self._known[path] = known
        return known[1]
