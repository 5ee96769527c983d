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
    ("kind", "changed", "figure", "word"),
    [
        (watch.OTHER, [picture.point(lambda value: value // 4) for picture in others(4, 3)], watch.COLOUR, "Colours"),
        (watch.CLASS, subject(2, 0), watch.CLASS_CHANGE, "class images"),
        (watch.OTHER, subject(4, 0), watch.OTHER_CHANGE, "more than the class"),
        (watch.SUBJECT, subject(6, 0)[:2], watch.COPYING, "copy training images"),
    ],
)
def test_each_side_effect_shows_in_its_figure_and_is_said_with_what_to_do(base, kind, changed, figure, word):
    found = watch.figures(base, {**base, kind: changed}, subject(6, 0))
    said = watch.warnings({figure: [(10, found[figure])]})
    assert found[figure] > watch.LIMITS[figure].value and len(said) == 1 and word in said[0] and "earlier snapshot" in said[0]


def test_what_cannot_be_measured_is_left_out(base):
    assert watch.figures({watch.SUBJECT: base[watch.SUBJECT]}, {watch.SUBJECT: base[watch.SUBJECT], watch.CLASS: []}) == {}


def said(*values):
    return [line[:10] for line in watch.warnings({watch.COLOUR: [(10 * place, value) for place, value in enumerate(values, 1)]})]


def test_a_figure_is_said_when_it_turns_and_again_only_when_it_grows_on():
    limit = watch.LIMITS[watch.COLOUR].value
    assert not said() and not said(limit - 1) and said(limit - 1, limit + 1) == ["Colours of"]
    assert not said(limit + 1, limit + 2) and not said(limit + 3, limit + 2, limit + 1)
    assert said(limit + 1, limit + 2, limit + 3) == ["It grows o"] and not said(limit + 1, limit + 2, limit + 3, limit + 4)
    assert said(limit + 1, limit - 1, limit + 1) == ["Colours of"]
