"""Which part of an image is kept, and how many ways there are."""

import pytest

from lib_finetune.data.cropping import Cropping

SQUARE = (512, 512)


@pytest.mark.parametrize(("crop", "flip", "ways"), [("centre", False, 1), ("centre", True, 2), ("random", False, 5), ("random", True, 10)])
def test_the_ways_are_those_that_come(picture, crop, flip, ways):
    cropping, wide = Cropping(crop, flip), picture(1, (900, 512))
    assert cropping.ways(wide, SQUARE) == ways
    assert len({cropping.choose(wide, SQUARE, str(step)) for step in range(300)}) == ways


def test_a_picture_that_fits_has_no_other_part(picture):
    fits = picture(1, SQUARE)
    assert Cropping("random").ways(fits, SQUARE) == 1
    assert not Cropping("random").varies(fits, SQUARE)
    assert {Cropping("random").choose(fits, SQUARE, str(step)) for step in range(30)} == {((0.5, 0.5), False)}


def test_only_random_crops_vary(picture):
    assert [crop for crop in ("centre", "random", "focal", "face") if Cropping(crop).varies(picture(1, (900, 512)), SQUARE)] == ["random"]


def test_an_unknown_crop_is_refused():
    with pytest.raises(ValueError, match="sideways"):
        Cropping("sideways")


@pytest.mark.parametrize(("crop", "steady"), [("centre", "centre"), ("random", "centre"), ("focal", "focal"), ("face", "face")])
def test_without_chance_a_picture_is_cut_in_one_way(crop, steady):
    assert Cropping(crop, True).steady() == Cropping(steady, False)
