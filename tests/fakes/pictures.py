"""Images for tests, drawn from a seed."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def draw(folder: Path, count: int = 3, size: tuple[int, int] = (64, 64), seed: int = 0) -> Path:
    """``count`` images 0.png, 1.png … in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    for number in range(count):
        image = Image.new("RGB", size, tuple(rng.randrange(256) for _ in range(3)))
        ImageDraw.Draw(image).ellipse((10, 10, 45, 50), fill=tuple(rng.randrange(256) for _ in range(3)))
        image.save(folder / f"{number}.png")
    return folder


def photo(seed: int, size: tuple[int, int] = (768, 512), steepness: float = 1.1) -> Image.Image:
    """Noise with the spectrum of photographs, amplitude 1/f^steepness."""
    rng = np.random.default_rng(seed)
    width, height = size
    frequency = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.fftfreq(width)[None] * width)
    frequency[0, 0] = 1.0
    grey = np.fft.ifft2(np.fft.fft2(rng.normal(size=(height, width))) / frequency**steepness).real
    grey = ((grey - grey.mean()) / grey.std() * 45 + 120).clip(0, 255)
    return Image.fromarray(np.stack([grey, grey * 0.9, grey * 0.8], axis=2).astype(np.uint8))
