"""Colours come out as they were meant, whatever the file says its numbers mean."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from lib_finetune.data import colours
from lib_finetune.data.colour_profile import SRGB_CURVE, SRGB_PRIMARIES, SRGB_WHITE, matrix_profile
from lib_finetune.data.images import decode, examine, marks
from tests.fakes import profiles

NEAR = 3


def encoded(image, kind="PNG", **save):
    file = io.BytesIO()
    image.save(file, kind, **save)
    return file.getvalue()


def plain(colour, mode="RGB"):
    return Image.new(mode, (16, 16), colour)


def pixel(data):
    return decode(data).getpixel((8, 8))


def near(colour, expected, by=NEAR):
    assert max(abs(one - other) for one, other in zip(colour, expected, strict=True)) <= by, (colour, expected)


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_with(image, *chunks):
    data = encoded(image)
    return data[:33] + b"".join(chunk(*each) for each in chunks) + data[33:]  # behind IHDR


def encode(light):
    """The curve of sRGB."""
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_display_p3_is_brought_to_srgb(kind):
    save = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    data = encoded(plain((90, 197, 95)), kind, icc_profile=profiles.display_p3(), **save)
    near(pixel(data), (0, 200, 80), 6)
    near(examine(data)[1].getpixel((8, 8)), (0, 200, 80), 6)
    assert marks(data).profile == "Display P3" and not marks(data).profile_unread


def test_grey_stays_grey_and_white_stays_white():
    for level in (0, 128, 255):
        near(pixel(encoded(plain((level,) * 3), icc_profile=profiles.display_p3())), (level,) * 3, 1)


@pytest.mark.parametrize("source", ["lcms", "ours"])
def test_a_picture_that_is_srgb_by_its_profile_stays_bit_by_bit(source):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if source == "ours":
        profile = matrix_profile(SRGB_PRIMARIES, SRGB_WHITE, SRGB_CURVE)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    assert decode(encoded(image, icc_profile=profile)).tobytes() == image.tobytes()
    assert marks(encoded(image, icc_profile=profile)).profile == ""


def test_transparency_lies_on_white_after_its_colours_were_brought_to_srgb():
    near(pixel(encoded(plain((90, 197, 95, 255), "RGBA"), icc_profile=profiles.display_p3())), (0, 200, 80))
    near(pixel(encoded(plain((90, 197, 95, 0), "RGBA"), icc_profile=profiles.display_p3())), (255, 255, 255), 0)


def test_a_palette_has_the_profile_too():
    image = plain((90, 197, 95)).convert("P", palette=Image.Palette.ADAPTIVE)
    near(pixel(encoded(image, icc_profile=profiles.display_p3())), (0, 200, 80))


def test_a_turned_picture_has_the_profile_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = plain((90, 197, 95)).resize((32, 16))
    data = encoded(image, "JPEG", quality=98, subsampling=0, icc_profile=profiles.display_p3(), exif=exif.tobytes())
    assert decode(data).size == (16, 32)
    near(pixel(data), (0, 200, 80), 6)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_profile_of_grey_is_followed(depth):
    image = plain(128, "L") if depth == 8 else Image.fromarray(np.full((16, 16), 128 * 257, dtype=np.uint16))
    near(pixel(encoded(image, icc_profile=profiles.grey(1.0))), (encode(np.array(128 / 255)),) * 3, 1)


def test_a_profile_of_colours_is_followed_by_a_grey_picture():
    linear = matrix_profile(SRGB_PRIMARIES, SRGB_WHITE, (1.0,))
    near(pixel(encoded(plain(128, "L"), icc_profile=linear)), (encode(np.array(128 / 255)),) * 3, 1)


def of_lab(lightness, a, b):
    """sRGB of a colour under D50 (CIE 15; Bradford's adaptation to D65)."""
    y = (lightness + 16) / 116
    cube = lambda share: share**3 if share > 6 / 29 else 3 * (6 / 29) ** 2 * (share - 4 / 29)  # noqa: E731
    xyz = np.array([0.9642 * cube(y + a / 500), cube(y), 0.8249 * cube(y - b / 200)])
    to_srgb = np.array([[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540], [0.0719453, -0.2289914, 1.4052427]])
    return encode((to_srgb @ xyz).clip(0, 1))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_a_profile_of_inks_is_followed(kind):
    lab = (60, 30, 20)
    data = encoded(plain((255, 0, 0, 0), "CMYK"), kind, icc_profile=profiles.cmyk(lab), **({"quality": 98} if kind == "JPEG" else {}))
    near(pixel(data), of_lab(*lab), 8)
    assert marks(data).profile == "printer"
    near(pixel(encoded(plain((0, 0, 0, 0), "CMYK"), kind, icc_profile=profiles.cmyk(lab))), (255, 255, 255))


@pytest.mark.parametrize("profile", [b"no profile", profiles.display_p3()[:200], profiles.cmyk((60, 30, 20)), profiles.grey(2.2)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_profile_that_cannot_be_used_is_told_and_the_numbers_are_taken_as_srgb(profile, kind):
    image = plain((90, 197, 95))
    data = encoded(image, kind, icc_profile=profile)
    near(pixel(data), pixel(encoded(image, kind)), 0)
    assert marks(data).profile_unread and not marks(data).profile


def test_a_profile_whose_bytes_are_damaged_in_the_file_is_told():
    data = png_with(plain("red"), (b"iCCP", b"name\0\0" + b"no zlib"))
    assert pixel(data) == (255, 0, 0) and marks(data).profile_unread


@pytest.mark.parametrize(("gamma", "level"), [(1.0, 128), (1 / 1.8, 128), (0.3, 200)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_the_gamma_of_a_png_is_followed(gamma, level, mode):
    image = plain((level,) * 3).convert(mode)
    data = png_with(image, (b"gAMA", struct.pack(">I", round(gamma * 100000))))
    near(pixel(data), (encode(np.array((level / 255) ** (1 / gamma))),) * 3, 2)
    assert "gamma" in marks(data).profile


@pytest.mark.parametrize("chunks", [[(b"gAMA", struct.pack(">I", 45455))], [(b"gAMA", struct.pack(">I", 100000)), (b"sRGB", b"\0")]])
def test_a_gamma_that_means_srgb_changes_nothing(chunks):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    data = png_with(image, *chunks)
    assert decode(data).tobytes() == image.tobytes() and marks(data).profile == ""


def test_the_primaries_of_a_png_are_followed():
    p3 = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
    data = png_with(plain((90, 197, 95)), (b"gAMA", struct.pack(">I", 45455)), (b"cHRM", struct.pack(">8I", *p3)))
    near(pixel(data), (0, 200, 80))


@pytest.mark.parametrize(
    "chunks", [[(b"gAMA", struct.pack(">I", 0))], [(b"cHRM", struct.pack(">8I", *[0] * 8))], [(b"cHRM", struct.pack(">8I", *[30000] * 8))]]
)
def test_what_cannot_be_is_told_and_not_followed(chunks):
    data = png_with(plain((90, 197, 95)), *chunks)
    assert pixel(data) == (90, 197, 95) and marks(data).profile_unread


def test_a_profile_goes_before_a_gamma():
    image = plain((90, 197, 95))
    data = encoded(image, icc_profile=profiles.display_p3())
    data = data[:33] + chunk(b"gAMA", struct.pack(">I", 100000)) + data[33:]
    near(pixel(data), (0, 200, 80))


def test_adobe_rgb_by_exif_alone_is_followed():
    exif = Image.Exif()
    exif[0x8769] = {0xA001: 0xFFFF, 0xA005: {1: "R03"}}
    data = encoded(plain((144, 200, 90)), "JPEG", quality=98, subsampling=0, exif=exif.tobytes())
    assert marks(data).profile == "Adobe RGB"
    light = (np.array([144, 200, 90]) / 255) ** (563 / 256)
    to_srgb = np.array([[1.39836, -0.39836, 0.0], [0.0, 1.0, 0.0], [0.0, -0.04294, 1.04294]])  # both have D65 and sRGB's red and blue
    near(pixel(data), encode((to_srgb @ light).clip(0, 1)), 6)


def test_broken_exif_data_is_no_obstacle():
    data = encoded(plain("red"), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\xff\xff\0\0")
    near(pixel(data), (255, 0, 0), 6)


@pytest.mark.parametrize(
    "mark", [b"http://ns.adobe.com/hdr-gain-map/1.0/", b"urn:iso:std:iso:ts:21496:-1\0", b"urn:com:apple:photo:2020:aux:hdrgainmap"]
)
def test_an_hdr_gain_map_is_told(mark):
    data = encoded(plain("red"), "JPEG")
    content = b"http://ns.adobe.com/xap/1.0/\0" + mark
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + data[2:]
    assert marks(data).gain_map and not marks(encoded(plain("red"), "JPEG")).gain_map
    near(pixel(data), (255, 0, 0), 6)


@pytest.mark.parametrize(
    ("points", "told"), [((9, 16, 0, 1), "PQ"), ((9, 18, 0, 1), "HLG"), ((12, 13, 0, 1), "primaries"), ((1, 13, 0, 1), "")]
)
def test_code_points_that_are_not_followed_are_told(points, told):
    data = png_with(plain("red"), (b"cICP", bytes(points)))
    assert told in marks(data).coding and bool(marks(data).coding) == bool(told)


def test_text_in_a_png_is_no_profile():
    info = PngInfo()
    info.add_text("parameters", "a cat")
    assert colours.declared(Image.open(io.BytesIO(encoded(plain("red"), pnginfo=info)))) == colours.Colours()
