"""Masks: which part of a training image shows what is taught, as weights of its loss."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from lib_finetune.data.images import UnreadablePictureError, kept_box, luminance, opacity, read
from lib_finetune.data.look import Remembered
from lib_finetune.data.mask_files import Mask
from lib_finetune.errors import InputError

if TYPE_CHECKING:
    from lib_finetune.data.buckets import Size
    from lib_finetune.data.scan import Picture

MASKS = ("files", "alpha", "off")
_LATENT_PX = 8
LIT = 8
"""Of 255: a mask in which nothing is brighter is an empty one. Labels of 0 and 1 look black too, and are named with it."""
_SHAPE_TOLERANCE = 0.02
"""How far the sides' ratio may be off: masks are made at sizes of their own, and rounded."""


@dataclass(frozen=True)
class _Seen:
    """What decoding a mask tells: (width, height) in px, sha256 of the bytes, the box as of `Mask`, None where it is empty."""

    size: tuple[int, int]
    content: str
    box: tuple[float, float, float, float] | None
    full: bool


def with_masks(pictures: Sequence[Picture], source: str) -> tuple[tuple[Picture, ...], tuple[tuple[Path, str], ...]]:
    """The images with their masks looked at, and (file, reason) of the masks that cannot be used.

    Args:
        source: of `MASKS`; "alpha" takes an image's alpha channel where it has no mask file.
    """
    refused: dict[Path, str] = {}
    if source == "off":
        return tuple(dataclasses.replace(picture, mask=None) for picture in pictures), ()
    looked_at = []
    for picture in pictures:
        mask: Mask | str | None = _of_file(picture) if picture.mask else _of_alpha(picture) if source == "alpha" else None
        if isinstance(mask, str):
            refused[picture.mask.path if picture.mask else picture.path] = mask
            mask = None
        looked_at.append(dataclasses.replace(picture, mask=mask))
    return tuple(looked_at), tuple(refused.items())


def _of_file(picture: Picture) -> Mask | str:
    """The mask of a file, or why it cannot be used."""
    assert picture.mask is not None
    path = picture.mask.path
    seen = _seen_file(path)
    if isinstance(seen, str):
        return seen
    if seen.box is None:
        return "is empty: nothing in it is white, so nothing of its image would be learned"
    width, height = seen.size
    if not has_shape_of(seen.size, (picture.width_px, picture.height_px)):
        return f"has another shape than its image ({width}×{height} px against {picture.width_px}×{picture.height_px})"
    return Mask(path, seen.content, box=seen.box)


def has_shape_of(mask: tuple[int, int], picture: tuple[int, int]) -> bool:
    """Whether the sides of a mask relate as those of an image do; (width, height) of both in px."""
    return abs(mask[0] * picture[1] / (mask[1] * picture[0]) - 1.0) <= _SHAPE_TOLERANCE


def _of_alpha(picture: Picture) -> Mask | str | None:
    """The mask that an image's alpha channel is; None where it has none or all of it is opaque."""
    seen = _seen_alpha(picture.path)
    if isinstance(seen, str) or seen.full:
        return None  # that it cannot be read is said of the image itself
    return Mask(picture.path, seen.content, True, seen.box) if seen.box else "is see-through everywhere, so nothing of it would be learned"


def _seen(path: Path, alpha: bool) -> _Seen | str:
    try:
        image, content = decoded(path, alpha)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except UnreadablePictureError as error:
        return f"cannot be used: {error}"
    box = image.point(lambda level: 255 if level >= LIT else 0).getbbox()
    shares = (box[0] / image.width, box[1] / image.height, box[2] / image.width, box[3] / image.height) if box else None
    return _Seen(image.size, content, shares, image.getextrema()[0] == 255)


_seen_file = Remembered(lambda path: _seen(path, False))
_seen_alpha = Remembered(lambda path: _seen(path, True))


def shows_nothing(mask: Mask, trained: tuple[float, float, float, float], size: Size) -> bool:
    """Whether nothing that the mask shows lies in the part of its image that is trained on.

    Args:
        trained: left, top, right, bottom in px of the image.
        size: (width, height) of the image in px.
    """
    left, top, right, bottom = mask.box
    return left * size[0] >= trained[2] or right * size[0] <= trained[0] or top * size[1] >= trained[3] or bottom * size[1] <= trained[1]


def decoded(path: Path, alpha: bool) -> tuple[Image.Image, str]:
    """A mask, 8-bit grey and upright, and the sha256 of its file's bytes.

    Args:
        alpha: whether the file's alpha channel is the mask.

    Raises:
        OSError: it cannot be read.
        UnreadablePictureError: it is no whole image.
    """
    data = read(path)
    return opacity(data) if alpha else luminance(data), hashlib.sha256(data).hexdigest()


def opened(mask: Mask) -> Image.Image:
    """The mask, 8-bit grey and upright, white where its image shows what is taught.

    Raises:
        InputError: the file is gone, broken, or no longer the one that was looked at; names it.
    """
    try:
        image, content = decoded(mask.path, mask.alpha)
    except (OSError, UnreadablePictureError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"The mask {mask.path} cannot be used ({reason}). Put it back, or start again without it.") from error
    if content != mask.content:
        raise InputError(f"The mask {mask.path} has changed since training was prepared. Start again to read it anew.")
    return image


class MaskWeights:
    """Weights of the loss, by mask and cut; read once and held, for they are small.

    Args:
        outside: weight of what a mask leaves out, 0..1; what it shows counts 1.
    """

    def __init__(self, outside: float) -> None:
        self._outside = outside
        self._held: dict[tuple[str, bool, Size, tuple[float, float], bool], torch.Tensor] = {}

    def of(self, mask: Mask, size: Size, position: tuple[float, float], flip: bool) -> torch.Tensor:
        """``[1, 1, h/8, w/8] float32``: 1 where all of a latent's pixels are shown, `outside` where none is, the mean between.

        The mask is scaled, cut and mirrored as its image is (`images.fit`).

        Args:
            size: (width, height) in px that the image is cut to.
            position, flip: as of `plan.Variant`.

        Raises:
            InputError: as of `opened`.
        """
        key = (mask.content, mask.alpha, size, position, flip)
        if key not in self._held:
            self._held[key] = self._computed(mask, size, position, flip)
        return self._held[key]

    def _computed(self, mask: Mask, size: Size, position: tuple[float, float], flip: bool) -> torch.Tensor:
        image = opened(mask)
        box = kept_box(image.width, image.height, size, position)
        latent = image.resize((size[0] // _LATENT_PX, size[1] // _LATENT_PX), Image.Resampling.BOX, box=box)
        shown = torch.from_numpy(np.asarray(latent, dtype=np.float32) / 255.0)
        shown = shown.flip(1) if flip else shown
        return (self._outside + (1.0 - self._outside) * shown)[None, None].contiguous()
