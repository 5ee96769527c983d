import io

import pytest
from PIL import Image, ImageDraw, ImageFilter

from lib_finetune.data import look
from lib_finetune.data.images import marks
from lib_finetune.data.look import BACKGROUND, BLURRED, LIGHT, POSE, Remembered, alike, common_traits, look_at
from tests.fakes.pictures import photo


def seen(tmp_path, image, name="a.png", **save):
    path = tmp_path / name
    image.save(path, **save)
    return look_at(path)


@pytest.mark.parametrize("size", [(512, 512), (1536, 1024), (300, 200)])
def test_a_sharp_picture_is_not_blurred_at_any_size(tmp_path, size):
    assert not seen(tmp_path, photo(1, size)).blurred


@pytest.mark.parametrize("factor", [1, 2])
def test_blur_is_seen_against_the_size_of_the_picture(tmp_path, factor):
    image = photo(2, (512 * factor, 512 * factor)).filter(ImageFilter.GaussianBlur(2.5 * factor))
    assert seen(tmp_path, image).blurred


def test_a_sharp_part_before_a_soft_background_is_sharp():
    image = photo(3, (512, 512))
    soft = image.filter(ImageFilter.GaussianBlur(6))
    soft.paste(image.crop((256, 128, 384, 256)), (256, 128))
    assert look.sharpness(soft) > BLURRED > look.sharpness(image.filter(ImageFilter.GaussianBlur(6)))


def test_a_drawing_with_few_lines_is_sharp():
    image = Image.new("RGB", (512, 512), (200, 180, 40))
    ImageDraw.Draw(image).ellipse((100, 100, 400, 420), fill=(180, 60, 60))
    assert look.sharpness(image) > BLURRED


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((384, 256)),
        lambda image: image.point(lambda level: min(255, int(level * 1.08))),
        lambda image: image.crop((10, 10, 758, 502)),
    ],
)
def test_a_copy_that_was_changed_a_little_is_found(tmp_path, change):
    first, second = seen(tmp_path, photo(4)), seen(tmp_path, change(photo(4)), "b.jpg", quality=50)
    assert alike([first, None, second]) == [[2], [], [0]]


def test_other_pictures_and_other_colours_are_not_alike(tmp_path):
    plain = [seen(tmp_path, Image.new("RGB", (64, 64), colour), f"{colour}.png") for colour in ("red", "blue")]
    assert alike([*plain, *(seen(tmp_path, photo(seed), f"{seed}.png") for seed in range(6))]) == [[]] * 8


def encoded(image, kind, **save):
    file = io.BytesIO()
    image.save(file, kind, **save)
    return file.getvalue()


def test_marks_of_a_file():
    plain, other = Image.new("RGB", (8, 6), "red"), Image.new("RGB", (8, 6), "blue")
    exif = Image.Exif()
    exif[0x0112] = 6
    holes = Image.new("RGBA", (8, 6), (255, 0, 0, 255))
    assert marks(encoded(plain, "PNG")) == marks(encoded(holes, "PNG")) == look.Marks(False, False, False)
    holes.putpixel((0, 0), (0, 0, 0, 10))
    assert marks(encoded(holes, "PNG")).transparent
    assert marks(encoded(plain, "JPEG", exif=exif.tobytes())).rotated
    assert marks(encoded(plain, "WEBP", save_all=True, append_images=[other])).animated


def test_a_broken_file_has_no_look(tmp_path):
    (tmp_path / "a.png").write_bytes(b"nothing")
    assert look_at(tmp_path / "a.png") is None and look_at(tmp_path / "gone.png") is None


def test_a_file_is_computed_again_only_when_it_changed(tmp_path):
    path, asked = tmp_path / "a", []
    path.write_text("1")
    remembered = Remembered(lambda given: (asked.append(given), given.read_text())[1])
    assert [remembered(path), remembered(path)] == ["1", "1"] and len(asked) == 1
    path.write_text("22")
    assert remembered(path) == "22" and len(asked) == 2


def scene(ground, subject, place, light=1.0):
    """A plain ground with a disc on it, its brightness changed as by a lamp."""
    image = Image.new("RGB", (128, 128), ground)
    ImageDraw.Draw(image).ellipse((place, 34, place + 60, 94), fill=subject)
    return image.point(lambda level: int(level * light))


COLOURS = [(200, 60, 40), (40, 160, 60), (60, 70, 190), (190, 180, 50), (150, 60, 160)]


def traits(tmp_path, images):
    for number, image in enumerate(images):
        image.save(tmp_path / f"{number}.png")
    return common_traits([look_at(tmp_path / f"{number}.png") for number in range(len(images))])


def test_a_ground_that_all_images_share_is_seen_and_different_ones_are_not(tmp_path):
    places = (5, 25, 40, 55, 62)
    assert BACKGROUND in traits(tmp_path, [scene((120, 130, 110), colour, place) for colour, place in zip(COLOURS, places, strict=True)])
    assert BACKGROUND not in traits(
        tmp_path, [scene(colour, (128, 128, 128), place) for colour, place in zip(COLOURS, places, strict=True)]
    )


def test_light_that_changes_is_no_common_light(tmp_path):
    alike_in_light = [scene((120, 130, 110), (130, 120, 120), place) for place in (5, 25, 40, 55)]
    assert LIGHT in traits(tmp_path, alike_in_light)
    assert LIGHT not in traits(tmp_path, [scene((120, 130, 110), (130, 120, 120), 40, light) for light in (0.4, 0.7, 1.0, 1.6)])


def test_one_pose_before_all_grounds_is_seen(tmp_path):
    assert POSE in traits(tmp_path, [scene(colour, tuple(level // 3 for level in colour), 34) for colour in COLOURS])
    assert POSE not in traits(tmp_path, [photo(seed) for seed in range(5)])


def test_images_that_have_nothing_in_common_and_too_few_say_nothing(tmp_path):
    tinted = [Image.blend(photo(seed), Image.new("RGB", (768, 512), COLOURS[seed]), 0.5) for seed in range(5)]
    assert traits(tmp_path, tinted) == []
    assert traits(tmp_path, [scene((120, 130, 110), COLOURS[0], 40)] * 3) == []
    assert common_traits([None] * 5) == []
