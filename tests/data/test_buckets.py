from __future__ import annotations

import math
import random

import pytest

from lib_finetune.data.buckets import bucket_sizes, choose

RESOLUTIONS = [64, 128, 192, 256, 320, 500, 512, 640, 768, 1000, 2048]


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_sides_are_steps_between_half_and_twice_the_resolution(resolution):
    sides = {side for size in bucket_sizes(resolution) for side in size}
    assert all(side % 64 == 0 and max(64, resolution / 2) <= side <= 2 * resolution for side in sides)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_no_size_has_more_area_than_the_square(resolution):
    assert max(width * height for width, height in bucket_sizes(resolution)) <= resolution**2


@pytest.mark.parametrize("resolution", [512, 640, 768, 1024])
def test_areas_come_near_the_square(resolution):
    assert min(width * height for width, height in bucket_sizes(resolution)) >= 0.75 * resolution**2


def test_sizes_come_lying_and_standing():
    sizes = bucket_sizes(512)
    assert {(height, width) for width, height in sizes} == set(sizes)


def test_the_square_is_among_the_sizes():
    assert (512, 512) in bucket_sizes(512)


def test_without_buckets_there_is_the_square_only():
    assert bucket_sizes(512, buckets=False) == ((512, 512),)


def test_a_resolution_off_the_step_comes_down_to_it():
    assert bucket_sizes(500, buckets=False) == ((448, 448),)


def test_a_resolution_below_one_step_is_refused():
    with pytest.raises(ValueError, match="32 px"):
        bucket_sizes(32)


def test_the_nearest_ratio_is_chosen():
    sizes = bucket_sizes(512)
    rng = random.Random(0)
    for _ in range(300):
        width, height = rng.randint(1, 5000), rng.randint(1, 5000)
        best = min(abs(math.log(w / h * height / width)) for w, h in sizes)
        chosen = choose(width, height, sizes)
        assert abs(math.log(chosen[0] / chosen[1] * height / width)) == pytest.approx(best, abs=1e-8)


def test_among_equal_ratios_the_largest_is_chosen():
    assert choose(100, 100, [(64, 64), (128, 128), (96, 96)]) == (128, 128)
