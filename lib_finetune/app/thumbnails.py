"""Small copies of images, made once and kept on disk."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from lib_finetune.errors import InputError, Problem, SaveError
from lib_finetune.files import write_atomically

if TYPE_CHECKING:
    from lib_finetune.jobs.job import Job

_log = logging.getLogger(__name__)
SIDE_PX = 256
PART = "thumbnails"
_QUALITY = 85
_READABLE = (".png", ".jpg", ".jpeg", ".webp")


class Thumbnails:
    """JPEGs below Finetune's folder, by what they were made of. Any thread."""

    def __init__(self, data: Path) -> None:
        """
        Args:
            data: Finetune's own folder.
        """
        self._folder = data / PART

    def of(self, path: Path, side_px: int = SIDE_PX) -> bytes:
        """A JPEG of an image of ours whose longer side is at most ``side_px``.

        Raises:
            InputError: the image is gone or broken.
        """
        try:
            about = path.stat()
        except OSError as error:
            raise _gone(path) from error
        return self.kept(f"{path}|{about.st_mtime_ns}|{about.st_size}|{side_px}", lambda: _small(path, side_px))

    def kept(self, key: str, make: Callable[[], Image.Image]) -> bytes:
        """The JPEG of a key, made where there is none.

        Args:
            key: names everything that the image depends on.

        Raises:
            FinetuneError: as ``make``.
        """
        name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        file = self._folder / name[:2] / f"{name}.jpg"
        try:
            return file.read_bytes()
        except OSError:  # the usual case: it was never made
            pass
        content = io.BytesIO()
        make().convert("RGB").save(content, format="JPEG", quality=_QUALITY)
        try:
            write_atomically(file, content.getvalue())
        except SaveError as error:  # it is shown all the same
            _log.debug("%s", error)
        return content.getvalue()


def cover(job: Job) -> Path | None:
    """The image that stands for a job: its last preview, else the first of its training images; None for neither."""
    previews = sorted((job.folder / "previews").glob("*/*.png"))
    if previews:
        last = previews[-1].parent
        return min(file for file in previews if file.parent == last)
    folder = Path(job.settings.data.images)
    try:
        return min((file for file in folder.iterdir() if file.suffix.lower() in _READABLE), default=None) if folder.is_dir() else None
    except OSError:
        return None


def _small(path: Path, side_px: int) -> Image.Image:
    """
    Raises:
        InputError: the image is gone or broken.
    """
    try:
        with Image.open(path) as image:
            image.draft("RGB", (side_px, side_px))
            small = image.convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise _gone(path) from error
    small.thumbnail((side_px, side_px), Image.Resampling.BILINEAR)
    return small


def _gone(path: Path) -> InputError:
    return InputError([Problem("picture", f"{path.name} is gone or cannot be read. Reload the page.")])
