"""The watch on side effects: figures that go the right way, and words when one turns."""

import numpy as np
import pytest
from PIL import Image

from bench.nano.folders import subject_scenes
from bench.nano.world import draw, random_scene
from lib_finetune.evaluation import watch


def subject(count, seed):
    return [Image.fromarray(draw(scene)) for scene in subject_scenes("winking-star", count=count, seed=seed)]


def others(count, seed):
    rng = np.random.default_rng(seed)
    return [Image.fromarray(draw(random_scene(rng))) for _ in range(count)]


@pytest.fixture
def base():
    return {watch.SUBJECT: others(2, 1), watch.CLASS: others(2, 2), watch.OTHER: others(4, 3)}


def test_the_base_against_itself_has_no_side_effects(base):
    found = watch.figures(base, base, subject(6, 0))
    assert found[watch.COLOUR] == 0 and found[watch.CLASS_CHANGE] == pytest.approx(0) and found[watch.OTHER_CHANGE] == pytest.approx(0)
    assert found[watch.COPYING] < 0.3 and not watch.warnings({name: [(10, value)] for name, value in found.items()})


@pytest.mark.parametrize(
    ("kind", "changed", "figure", "least"),
    [
        (watch.OTHER, [picture.point(lambda value: value // 4) for picture in others(4, 3)], watch.COLOUR, watch.COLOUR_LIMIT),
        (watch.CLASS, subject(2, 0), watch.CLASS_CHANGE, 0.7),
        (watch.OTHER, subject(4, 0), watch.OTHER_CHANGE, 0.5),
        (watch.SUBJECT, subject(6, 0)[:2], watch.COPYING, 0.5),
    ],
)
def test_each_side_effect_shows_in_its_figure(base, kind, changed, figure, least):
    assert watch.figures(base, {**base, kind: changed}, subject(6, 0))[figure] > least


def test_colours_that_shift_are_said_with_what_to_do():
    (sentence,) = watch.warnings({watch.COLOUR: [(10, 38.0)]})
    assert "Colours" in sentence and "38 (more than 15)" in sentence and "earlier snapshot" in sentence


@pytest.mark.parametrize("figure", [watch.CLASS_CHANGE, watch.OTHER_CHANGE, watch.COPYING])
def test_what_a_new_pose_moves_as_well_is_never_told_as_a_sentence(figure):
    assert watch.warnings({figure: [(step, 1.0) for step in (10, 20, 30)]}) == []


def test_what_cannot_be_measured_is_left_out(base):
    assert watch.figures({watch.SUBJECT: base[watch.SUBJECT]}, {watch.SUBJECT: base[watch.SUBJECT], watch.CLASS: []}) == {}


def said(*values):
    return [line[:10] for line in watch.warnings({watch.COLOUR: [(10 * place, value) for place, value in enumerate(values, 1)]})]


def test_a_figure_is_said_when_it_turns_and_again_only_when_it_grows_on():
    limit = watch.COLOUR_LIMIT
    assert not said() and not said(limit - 1) and said(limit - 1, limit + 1) == ["Colours of"]
    assert not said(limit + 1, limit + 2) and not said(limit + 3, limit + 2, limit + 1)
    assert said(limit + 1, limit + 2, limit + 3) == ["It grows o"] and not said(limit + 1, limit + 2, limit + 3, limit + 4)
    assert said(limit + 1, limit - 1, limit + 1) == ["Colours of"]
