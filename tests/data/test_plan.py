from __future__ import annotations

import itertools
import random
import time
from collections import Counter

import pytest

from lib_finetune.data.plan import Plan
from lib_finetune.data.plan_report import bucket_counts, lines, triggered
from tests.fakes.plans import plan_of

SHAPES = [(512, 512), (800, 600), (600, 800), (1920, 1080), (300, 900)]


@pytest.fixture
def plan(picture):
    """A plan with everything random in it."""

    def make(count: int = 23, classes: int = 0, **options: object) -> Plan:
        pictures = [picture(i, SHAPES[i % 5], 1 + i % 3, focus=(0.2, 0.7)) for i in range(count)]
        others = [picture(1000 + i, SHAPES[i % 4], caption=None) for i in range(classes)]
        chosen = {
            "batch": 4, "crop": "random", "flip": True, "trigger": "zxq", "class_word": "dog",
            "shuffle_tags": True, "tag_dropout": 0.3, "caption_dropout": 0.1,
        }  # fmt: skip
        return plan_of(pictures, others, **(chosen | options))

    return make


def items(plan: Plan, first: int, last: int) -> list:
    return [item for step in range(first, last) for item in plan.items(step)]


@pytest.mark.parametrize("batch", [1, 2, 4, 7, 64])
def test_every_picture_comes_repeats_times_an_epoch(plan, batch):
    made = plan(batch=batch)
    for epoch in range(3):
        seen = Counter(item.picture for item in items(made, epoch * made.epoch_steps, (epoch + 1) * made.epoch_steps))
        assert seen == {index: picture.repeats for index, picture in enumerate(made.pictures)}


def test_a_batch_has_one_size(plan):
    made = plan(classes=5)
    for step in range(3 * made.epoch_steps):
        assert len({item.size for item in made.items(step)}) == 1


def test_a_batch_is_never_larger_than_asked(plan):
    made = plan(batch=4)
    assert max(len(made.items(step)) for step in range(made.epoch_steps)) == 4


@pytest.mark.parametrize("classes", [0, 7])
def test_any_step_gives_the_same_items_whatever_was_asked_before(plan, classes):
    straight = plan(classes=classes)
    expected = [straight.items(step) for step in range(100)]
    steps = list(range(100))
    random.Random(0).shuffle(steps)
    jumping = plan(classes=classes)
    assert all(jumping.items(step) == expected[step] for step in steps)


def test_global_random_state_is_neither_read_nor_moved(plan):
    made = plan()
    before = random.getstate()
    first = items(made, 0, 20)
    assert random.getstate() == before
    random.seed(99)
    assert items(plan(), 0, 20) == first


def test_epochs_differ_in_order(plan):
    made = plan(count=12, batch=1)
    orders = {tuple(item.picture for item in items(made, e * made.epoch_steps, (e + 1) * made.epoch_steps)) for e in range(5)}
    assert len(orders) == 5


def test_the_seed_changes_the_items(plan):
    assert items(plan(seed=1), 0, 20) != items(plan(seed=2), 0, 20)


def test_centre_crop_is_the_middle(plan):
    assert {item.position for item in items(plan(crop="centre"), 0, 30)} == {(0.5, 0.5)}


def test_random_crop_uses_five_places_along_the_side_that_is_too_long(plan):
    made = plan(crop="random", buckets=False)
    found = items(made, 0, 200)
    for item in found:
        width, height = made.pictures[item.picture].width_px, made.pictures[item.picture].height_px
        assert width > height or item.position[0] == 0.5
        assert height > width or item.position[1] == 0.5
    assert {item.position[0] for item in found} == {0.0, 0.25, 0.5, 0.75, 1.0}


def test_focal_crop_moves_towards_the_focus(plan):
    made = plan(crop="focal", buckets=False)
    for item in items(made, 0, made.epoch_steps):
        width, height = made.pictures[item.picture].width_px, made.pictures[item.picture].height_px
        assert item.position[0] < 0.5 if width > height else item.position[0] == 0.5
        assert item.position[1] > 0.5 if height > width else item.position[1] == 0.5


def test_flip_mirrors_about_half(plan):
    flips = [item.flip for item in items(plan(flip=True), 0, 500)]
    assert 0.4 < sum(flips) / len(flips) < 0.6


def test_without_flip_nothing_is_mirrored(plan):
    assert not any(item.flip for item in items(plan(flip=False), 0, 100))


def test_flip_does_not_change_which_crops_come(plan):
    assert [i.position for i in items(plan(flip=True), 0, 50)] == [i.position for i in items(plan(flip=False), 0, 50)]


def test_captions_vary_from_step_to_step(plan):
    captions = {item.caption for item in items(plan(count=1), 0, 50)}
    assert len(captions) > 20


def test_captions_do_not_depend_on_crop_or_flip(plan):
    assert [i.caption for i in items(plan(), 0, 50)] == [i.caption for i in items(plan(crop="centre", flip=False), 0, 50)]


def test_each_picture_is_followed_by_a_class_picture(plan):
    for step in range(50):
        found = plan(classes=5).items(step)
        assert [item.prior for item in found] == [False] * (len(found) // 2) + [True] * (len(found) // 2)


def test_class_pictures_are_called_by_their_class_and_never_varied(plan):
    captions = {item.caption for item in items(plan(classes=5, caption_dropout=0.9), 0, 50) if item.prior}
    assert captions == {"a photo of dog"}


def test_class_pictures_with_caption_files_keep_them(picture):
    made = plan_of([picture(1)], [picture(2, caption="a brown dog")], trigger="zxq")
    assert made.items(0)[1].caption == "a brown dog"


def test_class_pictures_come_equally_often(plan):
    seen = Counter(item.picture for item in items(plan(classes=5), 0, 200) if item.prior)
    assert max(seen.values()) - min(seen.values()) <= 1


@pytest.mark.parametrize("options", [{}, {"crop": "centre", "flip": False}, {"crop": "focal"}])
@pytest.mark.parametrize("classes", [0, 5])
@pytest.mark.parametrize(("first", "last"), [(0, 1), (5, 40), (0, 150)])
def test_variants_are_those_of_the_items_each_once(plan, options, classes, first, last):
    made = plan(classes=classes, **options)
    expected = list(dict.fromkeys(item.variant for item in items(made, first, last)))
    assert list(made.variants(first, last)) == expected


def test_variants_of_millions_of_steps_end_when_all_have_come(plan):
    begun = time.process_time()
    assert len(list(plan(crop="centre", flip=False).variants(0, 10**9))) == 23
    assert len(list(plan(count=5).variants(0, 10**9))) <= 5 * 5 * 2
    assert time.process_time() - begun < 1.0


def test_variants_of_many_steps_are_given_one_by_one(plan):
    assert len(list(itertools.islice(plan(classes=300).variants(0, 10**9), 10))) == 10


def test_a_step_costs_the_same_with_ten_thousand_pictures(plan):
    made = plan(count=10_000, batch=1)
    made.items(0)
    begun = time.process_time()
    for step in range(1000):
        made.items(step)
    assert time.process_time() - begun < 0.5


def test_trigger_put_in_front_is_counted(picture):
    made = plan_of([picture(1, caption="a dog"), picture(2, caption="zxq dog"), picture(3, caption=None)], trigger="zxq")
    assert made.captions == ("zxq, a dog", "zxq dog", "a photo of zxq")
    assert triggered(made) == 1
    assert any("1 of 3" in line for line in lines(made))


def test_pictures_that_are_enlarged_are_said(picture):
    made = plan_of([picture(1, (200, 200)), picture(2)])
    assert any("00001.png" in line and "enlarged" in line for line in lines(made))


def test_sizes_are_counted(picture):
    made = plan_of([picture(1), picture(2), picture(3, (900, 600))])
    assert bucket_counts(made) == {(512, 512): 2, (640, 384): 1}


@pytest.mark.parametrize("options", [{"crop": "sideways"}, {"batch": 0}, {"resolution": 10}])
def test_what_cannot_be_planned_is_refused_at_once(picture, options):
    with pytest.raises(ValueError, match=r"sideways|batch|resolution"):
        plan_of([picture(1)], **options)


def test_no_picture_is_refused_at_once():
    with pytest.raises(ValueError, match="no image"):
        plan_of([])


def test_pictures_of_which_a_third_is_cut_off_are_said_with_what_to_do(picture):
    plan = plan_of([picture(0, (600, 600)), picture(1, (1500, 1000)), picture(2, (1400, 1000))], buckets=False)
    (line,) = (line for line in lines(plan) if "cut off" in line)
    assert "of 1: 00001.png" in line and "set data.crop to focal or switch on data.buckets" in line
