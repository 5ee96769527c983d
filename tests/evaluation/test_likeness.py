"""Likeness of coarse structure, on drawn subjects."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from bench.nano.folders import subject_scenes
from bench.nano.world import draw
from lib_finetune.evaluation import likeness

NONE = np.empty((0, 1))


def drawn(count, seed):
    return [Image.fromarray(draw(scene)) for scene in subject_scenes("winking-star", count=count, seed=seed)]


def thumbnails(count, seed):
    return likeness.thumbnails(drawn(count, seed))


def test_a_picture_is_like_itself_whatever_its_brightness_size_and_noise():
    picture = drawn(1, 0)[0]
    dim = picture.point(lambda value: 20 + 0.8 * value)
    large = picture.resize((512, 512)).filter(ImageFilter.GaussianBlur(3))
    noisy = Image.fromarray(np.clip(np.asarray(picture) + np.random.default_rng(0).normal(0, 12, (128, 128, 3)), 0, 255).astype(np.uint8))
    own = likeness.thumbnails([picture] * 3)
    assert (likeness.alike(own, likeness.thumbnails([dim, large, noisy])) > 0.97).all()


def test_another_scene_and_a_plain_picture_are_not_alike():
    first, plain = drawn(1, 0)[0], Image.new("RGB", (64, 64), "red")
    mirrored = first.rotate(90)
    found = likeness.alike(likeness.thumbnails([first, first]), likeness.thumbnails([mirrored, plain]))
    assert found[0] < 0.8 and found[1] == 0


def test_the_centre_square_is_compared():
    picture = drawn(1, 0)[0]
    wide = Image.new("RGB", (256, 128))
    wide.paste(picture, (64, 0))
    assert likeness.alike(likeness.thumbnails([picture]), likeness.thumbnails([wide])) == pytest.approx([1])


def test_copies_of_training_pictures_are_told_from_new_pictures_of_the_subject():
    training, fresh, held = thumbnails(8, 0), thumbnails(8, 5), thumbnails(3, 9)
    blurred = likeness.thumbnails([picture.filter(ImageFilter.GaussianBlur(4)) for picture in drawn(8, 0)])
    for among in (NONE, held):
        assert likeness.copying(blurred, training, among) > 0.8 and likeness.copying(fresh, training, among) < 0.3
    assert likeness.copying(held, training, held) == 0


def test_a_series_of_like_photographs_is_not_blamed_on_the_model():
    picture = drawn(1, 0)[0]
    series = likeness.thumbnails([picture.rotate(angle) for angle in (0, 1, 2, 3)])
    another = likeness.thumbnails([picture.rotate(5)])
    assert likeness.copying(another, series, NONE) == 0 and likeness.copying(another, series[:2], thumbnails(2, 5)) < 0.5


def test_without_a_yardstick_nothing_is_said():
    assert likeness.copying(thumbnails(1, 0), thumbnails(1, 0), NONE) is None
