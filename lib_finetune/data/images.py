"""An image's pixels: decoding of any kind of file to RGB, resizing without squashing, the part worth keeping, the tensor."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageChops, ImageFile, UnidentifiedImageError

from lib_finetune import regular_files
from lib_finetune.data.colours import coded_otherwise, declared, has_gain_map, to_srgb
from lib_finetune.errors import InputError

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_THUMBNAIL_PX = 64
# What Pillow's decoders raise on damaged bytes; it promises no narrower set.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


FILE_BYTES = 64 * 10**6
PIXELS = 64 * 10**6
"""The most pixels that an image may have: a small file can hold so many that decoding them takes all memory."""


class UnreadablePictureError(Exception):
    """The bytes are no whole image; the text is the reason in plain words, without the file's name."""


def read(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        OSError: it cannot be read, or is no regular file.
        UnreadablePictureError: it is larger than `FILE_BYTES`.
    """
    data = regular_files.read(path, FILE_BYTES)
    if len(data) > FILE_BYTES:
        size, most = path.stat().st_size / 1e6, FILE_BYTES / 1e6
        raise UnreadablePictureError(f"the file has {size:.0f} MB, and at most {most:.0f} are read; save it smaller")
    return data


def load_rgb(path: Path, content: str | None = None) -> Image.Image:
    """Read an image as 8-bit sRGB, upright, the first frame of an animation, transparent parts on white.

    Args:
        content: sha256 of the bytes that the file had when it was scanned; None does not check.

    Raises:
        InputError: the file is gone, broken, or no longer the one that was scanned; names it.
    """
    try:
        data = read(path)
    except UnreadablePictureError as error:
        raise InputError(f"The image {path} cannot be used: {error}. Replace it or take it out of the folder.") from error
    except OSError as error:
        raise InputError(f"The image {path} cannot be read ({error.strerror or error}). Put it back, or start again without it.") from error
    if content is not None and hashlib.sha256(data).hexdigest() != content:
        raise InputError(f"The image {path} has changed since training was prepared. Start again to read it anew.")
    try:
        return decode(data)
    except UnreadablePictureError as error:
        raise InputError(f"The image {path} cannot be used: {error}. Replace it or take it out of the folder.") from error


def decode(data: bytes) -> Image.Image:
    """Decode a file's bytes to 8-bit RGB in sRGB, upright.

    Raises:
        UnreadablePictureError: they are no whole image.
    """
    with _opened(data) as image:
        return _upright(_to_rgb(image), image)


@dataclass(frozen=True)
class Marks:
    """What a file has and its pixels in training no longer show.

    Attributes:
        rotated: whether it is stored turned or mirrored, and its EXIF data turn it upright.
        transparent: whether it has transparent parts, which become white.
        animated: whether it has further frames, which are left out.
        profile: name of the colour profile from which it is converted to sRGB, or "".
        profile_unread: why its declaration of colours cannot be followed, or "".
        gain_map: whether it has data for HDR screens, which are left out.
        coding: the name of a coding that is not followed, or "".
    """

    rotated: bool
    transparent: bool
    animated: bool
    profile: str = ""
    profile_unread: str = ""
    gain_map: bool = False
    coding: str = ""


def marks(data: bytes) -> Marks:
    """Look at a file's bytes.

    Raises:
        UnreadablePictureError: they are no whole image.
    """
    with _opened(data) as image:
        animated = getattr(image, "n_frames", 1) > 1 and getattr(image, "is_animated", False) and image.format != "MPO"
        turned = _orientation(image) != 1
        image.load()
        colours = declared(image)
        return Marks(turned, _has_holes(image), animated, colours.name, colours.unread, has_gain_map(data), coded_otherwise(data))


def _has_holes(image: Image.Image) -> bool:
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return False
    return int(image.convert("RGBA").getchannel("A").getextrema()[0]) < 255


def examine(data: bytes) -> tuple[tuple[int, int], Image.Image]:
    """Decode a file's bytes to the end, at the least cost (JPEG at an eighth of its size).

    Returns:
        (width, height) in px of the upright image, and an upright RGB thumbnail of at most 64 px.

    Raises:
        UnreadablePictureError: they are no whole image.
    """
    with _opened(data) as image:
        whole_size = image.size
        image.draft(None, (_THUMBNAIL_PX, _THUMBNAIL_PX))
        turned = _orientation(image) >= 5  # the four that swap the sides
        thumbnail = _upright(_thumbnail(_to_rgb(image)), image)
    return (whole_size[1], whole_size[0]) if turned else whole_size, thumbnail


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    if not data:
        raise UnreadablePictureError("the file is empty")
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > PIXELS:
                shape = f"{image.width}×{image.height} px are {image.width * image.height / 1e6:.0f} megapixels"
                raise UnreadablePictureError(f"its {shape}, and at most {PIXELS / 1e6:.0f} are read; save it smaller")
            if ImageFile.LOAD_TRUNCATED_IMAGES and not _ends_whole(data, image.format):
                raise UnreadablePictureError("the file is cut off")
            yield image
    except UnidentifiedImageError as error:
        raise UnreadablePictureError("this is not an image of a kind that can be read") from error
    except Image.DecompressionBombError as error:
        raise UnreadablePictureError("it has too many pixels to be opened safely") from error
    except MemoryError as error:
        raise UnreadablePictureError("it is too large for the memory that is free") from error
    except _DECODER_ERRORS as error:
        raise UnreadablePictureError(f"the file is cut off or damaged ({error})") from error


def _ends_whole(data: bytes, kind: str | None) -> bool:
    """Whether the file is complete. Pillow does not say so once another extension has told it to accept cut-off files."""
    if kind == "PNG":
        return b"IEND" in data
    if kind in ("JPEG", "MPO"):
        return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")  # end of image after the last start of scan
    if kind == "BMP":
        return len(data) >= int.from_bytes(data[2:6], "little")
    return True


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(_ORIENTATION, 1)
    return value if value in _UPRIGHT else 1


def _upright(pixels: Image.Image, source: Image.Image) -> Image.Image:
    orientation = _orientation(source)
    return pixels.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else pixels


def _to_rgb(image: Image.Image) -> Image.Image:
    """White lies under transparency: it is what catalogue images stand on and what the WebUI's img2img puts there.
    Dropping alpha instead would show the colours that editors leave under it, mostly black or garbage."""
    image.load()
    if image.mode == "F":
        raise UnreadablePictureError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    colours = declared(image)
    if image.mode.startswith("I"):
        image = _eight_bit(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        ground, above = Image.new("RGBA", image.size, "white"), image.convert("RGBA")
        if colours.profile is not None:
            alpha = above.getchannel("A")
            above = to_srgb(above.convert("RGB"), colours)
            above.putalpha(alpha)
        return Image.alpha_composite(ground, above).convert("RGB")
    return to_srgb(image, colours)


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit grey, which Pillow's own conversion would clip to white, scaled to 8 bits."""
    values = np.asarray(image).astype(np.int64).clip(0, 65535)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def luminance(data: bytes) -> Image.Image:
    """Decode a mask's bytes to 8-bit grey, upright; what is see-through in it is black.

    Raises:
        UnreadablePictureError: they are no whole image.
    """
    with _opened(data) as image:
        image.load()
        if image.mode == "F":
            raise UnreadablePictureError("its pixels are floating-point numbers; save it with 8 or 16 bits")
        plain = _eight_bit(image) if image.mode.startswith("I") else image
        grey = plain.convert("RGB").convert("L")
        if _has_holes(image):
            grey = ImageChops.multiply(grey, image.convert("RGBA").getchannel("A"))
        return _upright(grey, image)


def opacity(data: bytes) -> Image.Image:
    """Decode the alpha channel of an image's bytes to 8-bit grey, upright; white where there is none.

    Raises:
        UnreadablePictureError: they are no whole image.
    """
    with _opened(data) as image:
        image.load()
        return _upright(image.convert("RGBA").getchannel("A") if _has_holes(image) else Image.new("L", image.size, 255), image)


def fit(image: Image.Image, target_w: int, target_h: int, position: tuple[float, float]) -> Image.Image:
    """Scale an image until it just covers the target, and cut off what is left over; its shapes stay true.

    Both happen in one resampling (Lanczos) of the part that is kept, so that not even rounding squashes it.

    Args:
        target_w, target_h: px.
        position: which part of the left-over lies before the kept one, each 0..1 (0 keeps left/top, 0.5 the centre).
    """
    box = kept_box(image.width, image.height, (target_w, target_h), position)
    return image.resize((target_w, target_h), Image.Resampling.LANCZOS, box=box)


def kept_box(width: int, height: int, target: tuple[int, int], position: tuple[float, float]) -> tuple[float, float, float, float]:
    """The part of an image that `fit` keeps: left, top, right, bottom in px of the upright image.

    Args:
        target: (width, height) in px that it is scaled to.
        position: as `fit` takes it.
    """
    scale = max(target[0] / width, target[1] / height)
    kept_w, kept_h = min(width, target[0] / scale), min(height, target[1] / scale)
    left, top = (width - kept_w) * position[0], (height - kept_h) * position[1]
    return left, top, min(width, left + kept_w), min(height, top + kept_h)


def leftover_px(width_px: int, height_px: int, target: tuple[int, int]) -> tuple[float, float]:
    """How much `fit` cuts off along x and y, in px of the scaled image; one of the two is 0."""
    scale = max(target[0] / width_px, target[1] / height_px)
    return max(0.0, width_px * scale - target[0]), max(0.0, height_px * scale - target[1])


def lost_share(width_px: int, height_px: int, target: tuple[int, int]) -> float:
    """Share of an image's area that `fit` cuts off."""
    left, top, right, bottom = kept_box(width_px, height_px, target, (0.5, 0.5))
    return 1.0 - (right - left) * (bottom - top) / (width_px * height_px)


def position_around(focus: tuple[float, float], width_px: int, height_px: int, target: tuple[int, int]) -> tuple[float, float]:
    """The position for `fit` that brings a point of the image as near to the centre of the kept part as can be.

    Args:
        focus: the point, as shares 0..1 of width and height.
        target: (width, height) in px that will be kept.
    """

    def along(point: float, leftover: float, visible: float) -> float:
        if leftover <= 0.0:
            return 0.5
        return min(1.0, max(0.0, (point * (visible + leftover) - visible / 2) / leftover))

    leftover_x, leftover_y = leftover_px(width_px, height_px, target)
    return along(focus[0], leftover_x, target[0]), along(focus[1], leftover_y, target[1])


def to_tensor(image: Image.Image, flip: bool = False) -> torch.Tensor:
    """Pixels as the VAE reads them: ``[3, h, w] float32`` in -1..1, mirrored left to right if asked."""
    pixels = torch.from_numpy(np.array(image.convert("RGB"), dtype=np.uint8))
    if flip:
        pixels = pixels.flip(1)
    return pixels.permute(2, 0, 1).to(torch.float32).div(127.5).sub(1.0).contiguous()


def focal_position(image: Image.Image) -> tuple[float, float]:
    """The point that a crop should keep, as shares 0..1 of width and height, to two places (`position_around` makes a crop of it).

    The centre of mass of what stands out: edges, and colours far from those of the border, with a mild pull to the
    centre where photographers put their subject. A plain image gives the centre.
    """
    pixels = np.asarray(_thumbnail(image.convert("RGB")), dtype=np.float32) / 255.0
    height, width = pixels.shape[:2]
    edges = np.zeros((height, width))
    edges[:, 1:] += np.abs(np.diff(pixels, axis=1)).sum(axis=2)
    edges[1:, :] += np.abs(np.diff(pixels, axis=0)).sum(axis=2)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    contrast = np.abs(pixels - np.median(border, axis=0)).sum(axis=2)
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    prior = np.exp(-2.0 * ((x[None, :] - 0.5) ** 2 + (y[:, None] - 0.5) ** 2))
    energy = ((edges + contrast) ** 2 + 1e-6) * prior
    total = energy.sum()
    return round(float((energy.sum(axis=0) * x).sum() / total), 2), round(float((energy.sum(axis=1) * y).sum() / total), 2)


def _thumbnail(image: Image.Image) -> Image.Image:
    scale = min(1.0, _THUMBNAIL_PX / max(image.size))
    size = tuple(max(1, round(side * scale)) for side in image.size)
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
