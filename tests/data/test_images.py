from __future__ import annotations

import hashlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFile

from lib_finetune.data.images import (
    UnreadablePictureError,
    decode,
    examine,
    fit,
    focal_position,
    leftover_px,
    load_rgb,
    position_around,
    to_tensor,
)
from lib_finetune.errors import InputError


def encoded(image: Image.Image, kind: str = "PNG", **save: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **save)
    return file.getvalue()


def pixel(data: bytes, at: tuple[int, int] = (0, 0)) -> tuple[int, int, int]:
    image = decode(data)
    assert image.mode == "RGB"
    return image.getpixel(at)


def noise(size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def test_grey_becomes_rgb():
    assert pixel(encoded(Image.new("L", (4, 4), 77))) == (77, 77, 77)


def test_one_bit_becomes_black_and_white():
    assert pixel(encoded(Image.new("1", (4, 4), 1))) == (255, 255, 255)


def test_transparent_parts_lie_on_white():
    assert pixel(encoded(Image.new("RGBA", (4, 4), (10, 20, 30, 0)))) == (255, 255, 255)


def test_half_transparent_parts_are_blended_with_white():
    assert pixel(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 128)))) == (127, 127, 127)


def test_grey_with_alpha_lies_on_white():
    assert pixel(encoded(Image.new("LA", (4, 4), (50, 0)))) == (255, 255, 255)


def test_a_transparent_palette_entry_lies_on_white():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 10, 10])
    image.putpixel((3, 3), 0)
    data = encoded(image, transparency=1)
    assert (pixel(data), pixel(data, (3, 3))) == ((255, 255, 255), (0, 0, 0))


def test_a_transparent_colour_of_rgb_lies_on_white():
    assert pixel(encoded(Image.new("RGB", (4, 4), (1, 2, 3)), transparency=(1, 2, 3))) == (255, 255, 255)


def test_cmyk_becomes_rgb():
    red, green, blue = pixel(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    assert red > 240
    assert green < 15
    assert blue < 15


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (257 * 100, 100), (40000, 156), (65535, 255)])
def test_sixteen_bits_are_scaled_and_not_clipped(value, expected):
    data = encoded(Image.fromarray(np.full((4, 4), value, dtype=np.uint16)))
    assert pixel(data) == (expected, expected, expected)


def test_a_palette_gives_its_colours():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 10, 20])
    assert pixel(encoded(image)) == (200, 10, 20)


def test_colours_of_sixteen_bits_are_read():
    rows = b"".join(b"\0" + struct.pack(">3H", 40000, 257, 65535) * 4 for _ in range(4))
    parts = [(b"IHDR", struct.pack(">2I5B", 4, 4, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"".join(struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts)
    red, green, blue = pixel(b"\x89PNG\r\n\x1a\n" + data)
    assert abs(red - 156) <= 1 and (green, blue) == (1, 255)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_exif_rotation_is_applied_in_other_kinds_too(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(Image.new("RGB", (32, 16)), kind, exif=exif.tobytes())).size == (16, 32)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_gives_its_first_frame(kind):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    red, _, blue = pixel(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert red > 200
    assert blue < 60


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation):
    image = Image.new("RGB", (32, 16), "black")
    image.paste("white", (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, "JPEG", exif=exif, quality=95)
    corner = {1: (2, 2), 2: (29, 2), 3: (29, 13), 4: (2, 13), 5: (2, 2), 6: (13, 2), 7: (13, 29), 8: (2, 29)}[orientation]
    assert decode(data).size == examine(data)[0] == ((32, 16) if orientation < 5 else (16, 32))
    assert min(pixel(data, corner)) > 200


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_cut_off_file_is_unreadable(kind, share):
    data = encoded(noise(), kind)
    for read in (decode, examine):
        with pytest.raises(UnreadablePictureError):
            read(data[: int(len(data) * share)])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_a_cut_off_file_is_unreadable_where_an_extension_lets_them_pass(kind, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encoded(noise(), kind)
    decode(data)
    with pytest.raises(UnreadablePictureError):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_damaged_bytes_are_read_or_refused_but_never_crash(kind):
    data = encoded(noise(), kind)
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(data)
        for place in rng.integers(0, min(len(data), 400), 3):
            damaged[place] = rng.integers(0, 256)
        try:
            examine(bytes(damaged))
        except UnreadablePictureError:
            continue


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"gone\.png"):
        load_rgb(tmp_path / "gone.png")


def test_a_broken_file_is_named(tmp_path: Path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"bad\.png.*not an image"):
        load_rgb(tmp_path / "bad.png")


def test_a_file_that_changed_since_the_scan_is_refused(paint):
    path = paint("a.png")
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    load_rgb(path, content)
    paint("a.png", seed=1)
    with pytest.raises(InputError, match=r"a\.png has changed"):
        load_rgb(path, content)


@pytest.mark.parametrize("size", [(300, 1000), (1000, 300), (333, 517), (64, 64), (3000, 70), (97, 89)])
@pytest.mark.parametrize("target", [(128, 128), (64, 192), (192, 64)])
def test_fitting_gives_exactly_the_target(size, target):
    assert fit(Image.new("RGB", size), *target, (0.3, 0.9)).size == target


@pytest.mark.parametrize("size", [(700, 431), (433, 977), (250, 251)])
@pytest.mark.parametrize("target", [(256, 192), (192, 256), (256, 256)])
def test_fitting_never_squashes(size, target):
    image = Image.new("RGB", size, "black")
    centre_x, centre_y, radius = size[0] / 2, size[1] / 2, min(size) / 4
    ImageDraw.Draw(image).ellipse((centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius), fill="white")
    fitted = np.asarray(fit(image, *target, (0.5, 0.5)), dtype=float)[..., 0] / 255
    wide, high = fitted.max(axis=0).sum(), fitted.max(axis=1).sum()
    scale = max(target[0] / size[0], target[1] / size[1])
    drawn = 2 * radius * scale
    assert abs(wide - high) < 1.0
    assert abs(wide - drawn) < 2 * scale + 1.0


def test_position_chooses_what_is_kept():
    image = Image.new("RGB", (300, 100), "black")
    image.paste("red", (0, 0, 100, 100))
    image.paste("blue", (200, 0, 300, 100))
    colours = [fit(image, 50, 50, (x, 0.5)).getpixel((25, 25)) for x in (0.0, 0.5, 1.0)]
    assert colours == [(255, 0, 0), (0, 0, 0), (0, 0, 255)]


def test_a_picture_of_the_target_size_stays_as_it_is():
    assert fit(noise(), 64, 48, (0.5, 0.5)).tobytes() == noise().tobytes()


def test_leftover_is_what_fitting_cuts_off():
    assert leftover_px(300, 100, (50, 50)) == pytest.approx((100.0, 0.0))


def test_tensor_runs_from_minus_one_to_one():
    image = Image.new("RGB", (2, 3), (0, 255, 0))
    tensor = to_tensor(image, flip=False)
    assert (tensor.shape, tensor.dtype) == ((3, 3, 2), torch.float32)
    assert tensor[:, 0, 0].tolist() == [-1.0, 1.0, -1.0]


def test_flip_mirrors_left_to_right():
    assert torch.equal(to_tensor(noise(), flip=True), to_tensor(noise(), flip=False).flip(2))


@pytest.mark.parametrize(("left", "top"), [(10, 30), (230, 30), (150, 10)])
@pytest.mark.parametrize("ground", ["black", "white", "steelblue"])
def test_focal_crop_keeps_an_object_off_the_centre(left, top, ground):
    image = Image.new("RGB", (300, 100), ground)
    image.paste(noise((50, 50)), (left, top))
    position = position_around(focal_position(image), 300, 100, (64, 64))
    shown_from = position[0] * 200
    assert shown_from <= left + 2
    assert left + 48 <= shown_from + 100


def test_focal_crop_of_a_plain_picture_is_its_centre():
    assert focal_position(Image.new("RGB", (300, 100), "grey")) == (0.5, 0.5)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (4000, 3)])
def test_focal_point_of_odd_sizes_lies_inside(size):
    assert all(0.0 <= share <= 1.0 for share in focal_position(Image.new("RGB", size, "red")))


def test_a_focus_at_the_edge_moves_the_crop_no_further_than_the_edge():
    assert position_around((0.0, 1.0), 300, 100, (64, 64)) == (0.0, 0.5)
