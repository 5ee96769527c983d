"""The mask of an image that a person painted: where it lies, written and taken away."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lib_finetune.data.caption_file import ASIDE
from lib_finetune.data.file_kinds import name_key, readable_endings
from lib_finetune.data.images import UnreadablePictureError, luminance, read
from lib_finetune.data.masks import LIT, has_shape_of
from lib_finetune.errors import InputError, Problem, SaveError
from lib_finetune.files import write_atomically
from lib_finetune.locked_files import put_in_place

SIDE_PX = 4096
"""The longest side of a mask that is taken; it is brought to its image's size."""
_PNG = b"\x89PNG\r\n\x1a\n"
_LABEL = "-masklabel.png"
_MADE_BY = ("Software", "Finetune mask brush")
_FIELD = "mask"


def file_of(picture: Path) -> Path:
    """Where an image's painted mask lies: ``cat-masklabel.png``, and ``cat.jpg-masklabel.png`` beside another image of that stem."""
    others = (path for path in picture.parent.iterdir() if path.name != picture.name and path.suffix.lower() in readable_endings())
    twins = any(name_key(other.stem) == name_key(picture.stem) for other in others)
    return picture.with_name((picture.name if twins else picture.stem) + _LABEL)


def content_of(file: Path) -> str:
    """sha256 of a mask's bytes in hex, "" where it is not there or cannot be read."""
    try:
        return hashlib.sha256(read(file)).hexdigest()
    except (OSError, UnreadablePictureError):
        return ""


def is_painted_here(file: Path) -> bool:
    """Whether a mask was written by `save`."""
    try:
        with Image.open(io.BytesIO(read(file)), formats=("PNG",)) as image:
            return image.info.get(_MADE_BY[0]) == _MADE_BY[1]
    except (OSError, ValueError, SyntaxError, UnreadablePictureError, Image.DecompressionBombError):
        return False


def save(picture: Path, size: tuple[int, int], painted: bytes, replaces: str) -> Path:
    """Write an image's mask; returns its file.

    Args:
        size: (width, height) of the upright image in px.
        painted: a PNG, white where the image shows what is taught.
        replaces: `content_of` the file that lies there and may be overwritten; "" where there is none.

    Raises:
        InputError: it is no PNG, too large, empty or of another shape, or another file lies there than ``replaces`` says.
        SaveError: it cannot be written.
    """
    grey = _grey(painted)
    if grey.getextrema()[1] < LIT:
        raise _wrong(f"The mask of {picture.name} is empty. Paint over what is taught, then save it.")
    if not has_shape_of(grey.size, size):
        raise _wrong(f"The mask has another shape than {picture.name} ({grey.width}×{grey.height} against {size[0]}×{size[1]} px).")
    target = file_of(picture)
    _refuse_another(target, replaces)
    content, about = io.BytesIO(), PngInfo()
    about.add_text(*_MADE_BY)
    grey.resize(size, Image.Resampling.BILINEAR).save(content, "PNG", pnginfo=about)
    write_atomically(target, content.getvalue())
    return target


def take_away(picture: Path, replaces: str) -> None:
    """Rename an image's mask beside it to ``….bak``, so that nothing that was painted is lost.

    Args:
        replaces: as of `save`.

    Raises:
        InputError: another file lies there than ``replaces`` says, or none.
        SaveError: it cannot be renamed.
    """
    target = file_of(picture)
    if not replaces:
        raise _wrong(f"{picture.name} has no mask that could be taken away.")
    _refuse_another(target, replaces)
    try:
        put_in_place(target, target.with_name(target.name + ASIDE))
    except OSError as error:
        raise SaveError(f"{target} could not be renamed: {error.strerror or error}. Check the folder's permissions.") from error


def _refuse_another(target: Path, replaces: str) -> None:
    if target.exists() and (not target.is_file() or content_of(target) != replaces):
        raise _wrong(f"{target.name} lies there already, and it is not the one that was shown. Close the image and open it again.")
    if replaces and not target.exists():
        raise _wrong(f"{target.name} is gone. Close the image and open it again.")


def _grey(painted: bytes) -> Image.Image:
    if not painted.startswith(_PNG):
        raise _wrong("A mask is sent as a PNG.")
    try:
        with Image.open(io.BytesIO(painted), formats=("PNG",)) as header:
            size = header.size
        if max(size) > SIDE_PX:
            raise _wrong(f"The mask has {size[0]}×{size[1]} px; at most {SIDE_PX} a side are taken.")
        return luminance(painted)
    except (UnreadablePictureError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _wrong(f"The mask cannot be read: {error}.") from error


def _wrong(message: str) -> InputError:
    return InputError([Problem(_FIELD, message)])
