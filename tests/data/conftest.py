"""Made-up images for the tests of the data layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib_finetune.data.scan import Picture

Paint = Callable[..., Path]


@pytest.fixture
def paint(tmp_path: Path) -> Paint:
    """Writes an image with a smooth pattern into tmp_path and returns its path."""

    def make(name: str, size: tuple[int, int] = (48, 40), seed: int = 0, caption: str | None = None, **save: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, **save)
        if caption is not None:
            path.with_suffix(".txt").write_text(caption, encoding="utf-8")
        return path

    return make


@pytest.fixture
def picture() -> Callable[..., Picture]:
    """An image that exists on paper only."""

    def make(
        number: int, size: tuple[int, int] = (512, 512), repeats: int = 1, caption: str | None = "zxq, a, b, c, d", **more: object
    ) -> Picture:
        return Picture(Path(f"{number:05}.png"), *size, caption, repeats, f"{number:064x}", **more)  # type: ignore[arg-type]

    return make
