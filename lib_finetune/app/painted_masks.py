"""Masks that are painted on training images: shown, saved beside their images, and taken away."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from lib_finetune.data import drawn_mask
from lib_finetune.data.images import UnreadablePictureError
from lib_finetune.data.masks import decoded
from lib_finetune.errors import InputError, Problem

if TYPE_CHECKING:
    from lib_finetune.app.datasets import Datasets
    from lib_finetune.preflight.dataset_report import PictureView

BYTES = 16 * 10**6
LIMITS = f"A mask is one PNG of at most {BYTES // 10**6} MB and {drawn_mask.SIDE_PX} px a side."
_SHOWN_PX = 1024


@dataclass(frozen=True)
class MaskFacts:
    """What the brush has to know of an image.

    Attributes:
        width_px, height_px: of the upright image.
        file: name of the file whose mask counts, "" for none.
        target: name under which a painted mask is saved.
        content: `drawn_mask.content_of` the target.
        painted: whether the target was painted here; else a person put it there.
    """

    width_px: int
    height_px: int
    file: str
    target: str
    content: str
    painted: bool


class PaintedMasks:
    """Any thread. Images are known by the token that `Datasets.view` gave them, so that a request names no path."""

    def __init__(self, datasets: Datasets) -> None:
        self._datasets = datasets
        self._writing = threading.Lock()

    def facts(self, token: str) -> MaskFacts:
        """See `MaskFacts`.

        Raises:
            InputError: the image was not looked at, or is gone.
        """
        picture = self._picture(token)
        target = drawn_mask.file_of(Path(picture.path))
        counts = _counting(picture, target)
        return MaskFacts(
            picture.width_px,
            picture.height_px,
            counts.name if counts else "",
            target.name,
            drawn_mask.content_of(target),
            drawn_mask.is_painted_here(target),
        )

    def image(self, token: str) -> Image.Image:
        """The mask that counts, 8-bit grey, of the upright image's shape, at most 1024 px a side; black where there is none.

        Raises:
            InputError: as `facts`.
        """
        picture = self._picture(token)
        scale = min(1.0, _SHOWN_PX / max(picture.width_px, picture.height_px))
        size = (max(1, round(picture.width_px * scale)), max(1, round(picture.height_px * scale)))
        counts = _counting(picture, drawn_mask.file_of(Path(picture.path)))
        try:
            if counts is not None:
                return decoded(counts, str(counts) == picture.path)[0].resize(size, Image.Resampling.BILINEAR)
        except (OSError, UnreadablePictureError):  # it is a problem by name in the dataset; here a new one is begun
            pass
        return Image.new("L", size, 0)

    def save(self, token: str, painted: bytes, replaces: str = "") -> str:
        """Write an image's mask beside it; returns the name of its file. See `drawn_mask.save`.

        Raises:
            InputError: as `facts` and `drawn_mask.save`.
            SaveError: it cannot be written.
        """
        picture = self._picture(token)
        with self._writing:
            return drawn_mask.save(Path(picture.path), (picture.width_px, picture.height_px), painted, replaces).name

    def take_away(self, token: str, replaces: str) -> None:
        """See `drawn_mask.take_away`.

        Raises:
            InputError: as `facts` and `drawn_mask.take_away`.
            SaveError: it cannot be renamed.
        """
        with self._writing:
            drawn_mask.take_away(Path(self._picture(token).path), replaces)

    def _picture(self, token: str) -> PictureView:
        """
        Raises:
            InputError: the image was not looked at, or is gone.
        """
        picture = self._datasets.known(token)
        if not Path(picture.path).is_file():
            raise InputError([Problem("picture", f"{picture.name} is gone. Look at the folder again.")])
        return picture


def _counting(picture: PictureView, target: Path) -> Path | None:
    """The mask that counts: the painted one, else the one that the folder was seen with."""
    if target.is_file():
        return target
    return Path(picture.mask) if picture.mask and Path(picture.mask).is_file() else None
