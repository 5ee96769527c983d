"""The colours of an image as its file declares them, and their conversion to sRGB."""

from __future__ import annotations

import functools
import io
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from lib_finetune.data.colour_profile import ADOBE_RGB, SRGB_CURVE, SRGB_PRIMARIES, SRGB_WHITE, matrix_profile

_BLACK_POINT_COMPENSATION = 0x2000
"""lcms2's flag; Pillow has had two names for it."""
_SAME_LEVELS = 2
"""In levels of 255: a profile that moves every colour by less than this is sRGB under another name, and its images stay bit for bit."""
_SPACES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}
_GREY_MODES = ("1", "L", "LA", "I", "F")
_COMMON_GAMMA, _NEAR = 1 / 2.2, 0.02
"""What PNG files of sRGB images declare: an approximation of its curve."""
_GAIN_MAPS = (b"http://ns.adobe.com/hdr-gain-map/1.0/", b"urn:iso:std:iso:ts:21496", b"hdrgainmap", b"HDRGainMap")
_HEAD_BYTES = 2**16
_BROKEN_EXIF = (LookupError, ValueError, TypeError, AttributeError, OSError, SyntaxError, struct.error)


@dataclass(frozen=True)
class Colours:
    """What a file declares about its colours.

    Attributes:
        profile: an ICC profile that brings them to sRGB; None where they are sRGB, or nothing that can be read is declared.
        mode: Pillow's mode of the numbers that the profile takes.
        name: of the profile, as its maker wrote it; "" without one.
        unread: why the declaration cannot be followed, or "".
    """

    profile: bytes | None = None
    mode: str = "RGB"
    name: str = ""
    unread: str = ""


def declared(image: Image.Image) -> Colours:
    """What an opened file declares; an ICC profile goes before the rest, as in browsers.

    Args:
        image: as `Image.open` gave it; its pixels are not looked at.
    """
    if "icc_profile" in image.info:
        profile = image.info["icc_profile"]
        return _usable(profile, image.mode) if profile else Colours(unread="it is damaged")
    if image.format == "PNG" and "srgb" not in image.info:
        return _of_png(image.info.get("gamma"), image.info.get("chromaticity"), image.mode)
    return _usable(ADOBE_RGB, image.mode, "Adobe RGB") if _is_adobe_rgb(image) else Colours()


def to_srgb(image: Image.Image, colours: Colours) -> Image.Image:
    """The image as 8-bit RGB in sRGB, relative colorimetric; transparency is left out.

    Args:
        image: 8 bits a channel.
    """
    if colours.profile is None:
        return image.convert("RGB")
    return _transformed(image.convert(colours.mode), colours.profile)


def has_gain_map(data: bytes) -> bool:
    """Whether a file has a second part that tells how much brighter than white its pixels shine on an HDR screen."""
    return any(mark in data for mark in _GAIN_MAPS) or b"tmap" in data[:256]


def coded_otherwise(data: bytes) -> str:
    """The coding that a file declares by code points (ITU-T H.273), if it is one that we do not follow; else ""."""
    head = data[:_HEAD_BYTES]
    if data.startswith(b"\x89PNG"):
        primaries, transfer = _code_points(head, b"cICP", "BB")
    elif data[4:8] == b"ftyp":
        primaries, transfer = _code_points(head, b"nclx", ">HH")
    else:
        return ""
    if transfer in (16, 18):
        return "PQ" if transfer == 16 else "HLG"
    return "other primaries than sRGB's" if primaries not in (0, 1, 2, 5, 6) else ""


def _code_points(head: bytes, mark: bytes, form: str) -> tuple[int, int]:
    place = head.find(mark)
    if place < 0 or len(head) < place + len(mark) + struct.calcsize(form):
        return 0, 0
    primaries, transfer = struct.unpack_from(form, head, place + len(mark))
    return primaries, transfer


def _of_png(gamma: float | None, chromaticity: tuple[float, ...] | None, mode: str) -> Colours:
    """From the chunks gAMA and cHRM; a missing one is sRGB's."""
    common = gamma is None or abs(gamma - _COMMON_GAMMA) <= _NEAR
    white, primaries = (chromaticity[:2], chromaticity[2:]) if chromaticity else (SRGB_WHITE, SRGB_PRIMARIES)
    if common and np.allclose((*white, *primaries), (*SRGB_WHITE, *SRGB_PRIMARIES), atol=0.002):
        return Colours()
    if gamma is not None and not 0.05 <= gamma <= 20:
        return Colours(unread=f"a gamma of {gamma:g} cannot be")
    try:
        profile = matrix_profile(primaries, white, SRGB_CURVE if common else (1 / gamma,))  # type: ignore[operator]
    except (ValueError, ArithmeticError, np.linalg.LinAlgError, struct.error):
        return Colours(unread="its primaries cannot be")
    return _usable(profile, mode, "gamma and primaries of a PNG file")


def _is_adobe_rgb(image: Image.Image) -> bool:
    """Whether the EXIF data alone declare Adobe RGB, as cameras write that embed no profile (DCF 2.0, option file)."""
    try:
        exif = image.getexif()
        return str(exif.get_ifd(0xA005).get(1, "")).startswith("R03")
    except _BROKEN_EXIF:
        return False


@functools.lru_cache(maxsize=64)
def _usable(profile: bytes, mode: str, name: str = "") -> Colours:
    """The profile, if it fits pixels of this mode; nothing if it changes no pixel."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = opened.profile.xcolor_space.strip()
        takes = _SPACES.get(space)
        if takes is None or not _fits(takes, mode):
            return Colours(unread=f"it is for {space or 'unknown'} colours and the image has others")
        lattice = _lattice(takes)
        result = np.asarray(_transformed(lattice, profile), dtype=np.int16)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, ImportError) as error:
        return Colours(unread=str(error).strip().rstrip(".") or "it is damaged")
    if takes != "CMYK" and np.abs(result - np.asarray(lattice.convert("RGB"), dtype=np.int16)).max() <= _SAME_LEVELS:
        return Colours()
    return Colours(profile, takes, name or _description(opened))


def _fits(takes: str, mode: str) -> bool:
    if takes == "CMYK" or mode == "CMYK":
        return takes == mode
    return takes == "RGB" or mode.startswith(_GREY_MODES)


def _lattice(mode: str) -> Image.Image:
    """Colours from everywhere in the space of a mode."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.linspace(0, 255, 9 if mode == "RGB" else 4).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(*[levels] * len(mode)), axis=-1).reshape(1, -1, len(mode))
    return Image.frombytes(mode, (grid.shape[1], 1), grid.tobytes())


def _transformed(image: Image.Image, profile: bytes) -> Image.Image:
    source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    result = ImageCms.profileToProfile(
        image,
        source,
        ImageCms.ImageCmsProfile(target),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=_BLACK_POINT_COMPENSATION,
    )
    assert result is not None  # only an edit in place returns None
    return result


def _description(profile: Any) -> str:
    try:
        return str(ImageCms.getProfileDescription(profile)).strip() or "a profile without a name"
    except (ImageCms.PyCMSError, ValueError, TypeError):
        return "a profile without a name"
