"""Which part of an image a step sees, and whether it is mirrored: a function of the settings and a key alone."""

from __future__ import annotations

import random
from dataclasses import dataclass

from lib_finetune.data.buckets import Size
from lib_finetune.data.images import leftover_px, position_around
from lib_finetune.data.scan import Picture

CROPS = ("centre", "random", "focal", "face")
_RANDOM_POSITIONS = (0.0, 0.25, 0.5, 0.75, 1.0)  # few, so that the encoded images to be cached stay few


@dataclass(frozen=True)
class Cropping:
    """How images that do not fit their bucket are cut.

    Attributes:
        crop: "centre", "random" (one of five places along the side that is too long) or "focal" or "face" (around `Picture.focus`).
        flip: mirror at random.

    Raises:
        ValueError: an unknown crop.
    """

    crop: str = "centre"
    flip: bool = False

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise ValueError(f"crop {self.crop!r} is none of {', '.join(CROPS)}")

    def choose(self, picture: Picture, size: Size, key: str) -> tuple[tuple[float, float], bool]:
        """The part that is kept, as `images.fit` takes it, and whether it is mirrored; the same key gives the same."""
        position, flip = (0.5, 0.5), False
        if self.crop == "random" or self.flip:
            rng = random.Random(f"{key}/crop")
            # Both are always drawn, so that mirroring does not change the crops.
            place, flip = rng.choice(_RANDOM_POSITIONS), self.flip and rng.random() < 0.5
            if self.crop == "random":
                x, y = leftover_px(picture.width_px, picture.height_px, size)
                position = (place if x >= 1.0 else 0.5, place if y >= 1.0 else 0.5)
        if self.crop in ("focal", "face"):
            position = position_around(picture.focus, picture.width_px, picture.height_px, size)
        return (round(position[0], 4), round(position[1], 4)), flip

    def steady(self) -> Cropping:
        """The part that is kept without chance: the middle instead of a random part, nothing mirrored."""
        return Cropping("centre" if self.crop == "random" else self.crop)

    def varies(self, picture: Picture, size: Size) -> bool:
        """Whether the part that is kept may change from one time to the next."""
        return self.crop == "random" and max(leftover_px(picture.width_px, picture.height_px, size)) >= 1.0

    def ways(self, picture: Picture, size: Size) -> int:
        """How many different results `choose` can have."""
        return (len(_RANDOM_POSITIONS) if self.varies(picture, size) else 1) * (2 if self.flip else 1)
