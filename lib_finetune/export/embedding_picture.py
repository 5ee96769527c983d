"""An embedding inside an image, as the WebUI saves them to be shared: in a PNG's text, or in the pixels beside the image.

Reference: the WebUI's modules/textual_inversion/image_embedding.py, which explains the form; the content is JSON, and nothing of it runs.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

ENDINGS = (".png", ".webp", ".avif", ".jxl")
BEGINNING = re.compile(rb"\x89PNG\r\n|RIFF.{4}WEBP|.{4}ftypavi|\xff\x0a|\0{3}\x0cJXL ", re.DOTALL)
"""How such images begin, whatever their names end in."""
_CHUNK = "sd-ti-embedding"
_TENSOR = "TORCHTENSOR"
_JSON_BYTES = 64 << 20
_LOW = 0x0F
"""Of each byte of a pixel the content takes the lower half; the upper one is drawn on."""


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """The vectors in an image by their names in it ("*").

    Raises:
        ValueError: it holds none, or cannot be read; the message follows the file's name.
    """
    try:
        with Image.open(path) as image:
            text = getattr(image, "text", {}).get(_CHUNK)
            content = base64.b64decode(text, validate=False) if text else _in_pixels(np.asarray(image.convert("RGB")))
    except (UnidentifiedImageError, SyntaxError, Image.DecompressionBombError, binascii.Error, OSError, EOFError, struct.error):
        raise ValueError("is an image that cannot be read, or too large for one that holds an embedding. Get the original file.") from None
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError(_NONE) from None
    named = data.get("string_to_param") if isinstance(data, Mapping) else None
    return {str(name): _tensor(value) for name, value in named.items()} if isinstance(named, Mapping) else {}


_NONE = "is an image without an embedding in it: one that was saved anew, by a site or a program, has lost it. Get the original file."


def _tensor(value: Any) -> torch.Tensor:
    try:
        return torch.tensor(value[_TENSOR], dtype=torch.float32)
    except (KeyError, TypeError, ValueError, IndexError):
        raise ValueError("is an image whose embedding is damaged. Get the original file.") from None


def _in_pixels(pixels: np.ndarray) -> bytes:
    """The content of two blocks at both sides of the image, a black column between it and each of them."""
    halves = _without_black_edge(pixels) & _LOW
    black = np.flatnonzero(halves.sum(axis=(0, 2)) == 0)
    if len(black) < 2:
        raise ValueError(_NONE)
    low, high = (_unmasked(block) for block in (halves[:, : black[0]], halves[:, black[-1] + 1 :]))
    if low.shape != high.shape or not low.size:
        raise ValueError(_NONE)
    try:
        return zlib.decompressobj().decompress((high << 4 | low).tobytes(), _JSON_BYTES)
    except zlib.error:
        raise ValueError(_NONE) from None


def _without_black_edge(pixels: np.ndarray) -> np.ndarray:
    lit = np.all(pixels > 0, axis=2)
    columns, rows = np.flatnonzero(np.any(lit, axis=0)), np.flatnonzero(np.any(lit, axis=1))
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else pixels[:0]


def _unmasked(block: np.ndarray) -> np.ndarray:
    """A fixed row of pseudo-random numbers (Numerical Recipes' generator) was laid over the content."""
    state, mask = 0, np.empty(block.size, np.uint8)
    for place in range(block.size):
        state = (1664525 * state + 1013904223) % 2**32
        mask[place] = state % 255
    return (block ^ (mask.reshape(block.shape) & _LOW)).astype(np.uint8)
