"""Colour: how far the colours of images have moved, in CIE L*a*b*."""

from __future__ import annotations

import numpy as np


def lab(pictures: np.ndarray) -> np.ndarray:
    """L*a*b* of every pixel, from sRGB with white D65 (IEC 61966-2-1, CIE 15).

    Args:
        pictures: [..., h, w, 3] uint8.
    """
    srgb = pictures.astype(np.float64) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def drift(first: np.ndarray, second: np.ndarray) -> float:
    """How far the balance of colours has moved from ``first`` to ``second``, in ΔE: mean colour and contrast together.

    The contrast is the standard deviation of L*, a* and b* over an image: a spoiled model paints greyer or harsher images, whose
    mean may well stay where it was. What moves the images in different directions is what they show, and cancels out.

    Args:
        first, second: paired images, [n, h, w, 3] uint8.
    """
    before, after = lab(first), lab(second)
    mean, contrast = ((of(after, (1, 2)) - of(before, (1, 2))).mean(0) for of in (np.mean, np.std))
    return float(np.hypot(np.linalg.norm(mean), np.linalg.norm(contrast)))
