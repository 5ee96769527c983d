"""Pictures for tests, drawn from a seed."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image, ImageDraw


def draw(folder: Path, count: int = 3, size: tuple[int, int] = (64, 64), seed: int = 0) -> Path:
    """``count`` pictures 0.png, 1.png … in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    for number in range(count):
        image = Image.new("RGB", size, tuple(rng.randrange(256) for _ in range(3)))
        ImageDraw.Draw(image).ellipse((10, 10, 45, 50), fill=tuple(rng.randrange(256) for _ in range(3)))
        image.save(folder / f"{number}.png")
    return folder
