"""One picture: opened as 8-bit RGB whatever it was, brought to a size without squashing, turned into a tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps, UnidentifiedImageError

from lib_finetune.errors import InputError, Problem

BROKEN = (OSError, UnidentifiedImageError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
_WIDE_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_FOCUS_PX = 64


def load_rgb(path: Path) -> Image.Image:
    """A picture as 8-bit RGB, upright.

    EXIF rotation is applied; the first frame of an animation is taken; 16-bit values are scaled, not clipped; what is
    transparent becomes white, as viewers and shops show cut-outs (the colours under full transparency are arbitrary).

    Raises:
        InputError: the file is missing or broken, by name.
    """
    try:
        with Image.open(path) as image:
            image.seek(0)
            image.load()
            return _flat(ImageOps.exif_transpose(image))
    except BROKEN as error:
        raise InputError([Problem("data.images", f"{path} cannot be read as a picture: {error}. Remove or replace it.")]) from error


def _flat(image: Image.Image) -> Image.Image:
    if image.mode in _WIDE_MODES:
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Grey values of 16 or more bits to 8: from their full range, or from the values' own where they do not say it."""
    numbers = values.astype(np.float64)
    top = 65535.0 if 255 < numbers.max() <= 65535 else max(255.0, float(numbers.max()))
    return np.asarray((numbers.clip(0) / top * 255).round(), dtype=np.uint8)


def fit(image: Image.Image, width: int, height: int, position: tuple[float, float]) -> Image.Image:
    """Resize so that the target is covered, then crop; the shape is never squashed.

    Args:
        width, height: target in px.
        position: which part of the left-over is kept, 0 … 1 from left and from top.
    """
    scale = max(width / image.width, height / image.height)
    covered = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    left = round((covered[0] - width) * position[0])
    top = round((covered[1] - height) * position[1])
    resized = image if covered == image.size else image.resize(covered, Image.Resampling.LANCZOS)
    return resized.crop((left, top, left + width, top + height))


def to_tensor(image: Image.Image, flip: bool) -> torch.Tensor:
    """RGB picture → [3, h, w] float32 in −1 … 1, mirrored if asked."""
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).float() / 127.5 - 1.0
    return pixels.flip(-1).contiguous() if flip else pixels.contiguous()


def focal_position(image: Image.Image, width: int, height: int) -> tuple[float, float]:
    """The crop position that keeps most of what stands out: edges and colour contrast, with a mild pull to the middle.

    Args:
        width, height: of the crop that will be taken; only their ratio counts.

    Returns:
        position as in `fit`, in steps of 1/16.
    """
    small = image.resize((_FOCUS_PX, _FOCUS_PX), Image.Resampling.BOX)
    edges = np.asarray(small.convert("L").filter(ImageFilter.FIND_EDGES), dtype=np.float64)
    edges[[0, -1], :] = edges[:, [0, -1]] = 0  # the filter's own border is no edge
    colours = np.asarray(small, dtype=np.float64)
    contrast = np.linalg.norm(colours - np.median(colours, axis=(0, 1)), axis=2)
    axis = np.linspace(-1, 1, _FOCUS_PX)
    prior = np.exp(-0.5 * (axis[:, None] ** 2 + axis[None, :] ** 2))
    energy = (edges + contrast) * prior
    scale = max(width / image.width, height / image.height)
    seen_x, seen_y = width / (image.width * scale), height / (image.height * scale)
    return _best_start(energy.sum(axis=0), seen_x), _best_start(energy.sum(axis=1), seen_y)


def _best_start(profile: np.ndarray, seen: float) -> float:
    """Position 0 … 1 of a window over ``seen`` of the profile that holds most energy; the middle where nothing is cut."""
    window = max(1, round(seen * len(profile)))
    room = len(profile) - window
    if room <= 0 or profile.sum() == 0:
        return 0.5
    sums = np.convolve(profile, np.ones(window), mode="valid")
    # Among equals the one nearest the middle.
    order = np.abs(np.arange(room + 1) - room / 2)
    best = max(range(room + 1), key=lambda start: (round(float(sums[start]), 6), -order[start]))
    return round(best / room * 16) / 16
