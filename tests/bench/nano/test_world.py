import numpy as np
import pytest

from bench.nano import autoencoder
from bench.nano.captions import full_caption, random_caption
from bench.nano.shapes import SHAPES
from bench.nano.world import COLOURS, SIZE_PX, STYLES, SUBJECTS, Scene, draw, random_scene, subject_scene


def test_equal_seeds_give_equal_pictures():
    first, second = (draw(random_scene(np.random.default_rng(7))) for _ in range(2))
    assert np.array_equal(first, second)


def test_the_world_is_rich_enough():
    assert len(SHAPES) >= 8
    assert len(COLOURS) >= 8
    assert len(SUBJECTS) >= 3
    assert {"outline", "mosaic"} <= set(STYLES)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_covers_its_middle_part_of_the_picture(shape):
    picture = draw(Scene(shape=shape, colour="red", ground="blue"))
    red = (picture[..., 0] > 150) & (picture[..., 2] < 120)
    rows, columns = np.nonzero(red)
    assert 0.08 < red.mean() < 0.45
    assert abs(rows.mean() / SIZE_PX - 0.5) < 0.15  # a heart has its weight above
    assert abs(columns.mean() / SIZE_PX - 0.5) < 0.17  # a moon to the left


def test_colours_follow_the_scene():
    picture = draw(Scene(shape="circle", colour="yellow", ground="purple"))
    assert np.abs(picture[64, 64].astype(int) - COLOURS["yellow"]).max() < 40
    assert np.abs(picture[3, 3].astype(int) - COLOURS["purple"]).max() < 40


@pytest.mark.parametrize("pattern", ["striped", "dotted"])
def test_patterns_have_two_tones(pattern):
    plain, patterned = (draw(Scene("circle", "red", "white", pattern=name)).astype(float) for name in ("plain", pattern))
    assert patterned[:, :16].std() > plain[:, :16].std() + 15


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_subject_looks_unlike_any_object_of_one_colour(subject):
    scene = subject_scene(np.random.default_rng(1), subject)
    assert scene.ground not in SUBJECTS[subject].colours
    plain = draw(Scene(scene.shape, SUBJECTS[subject].colours[0], scene.ground, seed=scene.seed))
    assert np.abs(draw(scene).astype(int) - plain).mean() > 5


@pytest.mark.parametrize("style", [style for style in STYLES if style])
def test_a_style_changes_the_picture(style):
    scene = random_scene(np.random.default_rng(3))
    styled = random_scene(np.random.default_rng(3), style=style)
    assert np.abs(draw(styled).astype(int) - draw(scene)).mean() > 3


def test_object_and_ground_never_share_a_colour():
    rng = np.random.default_rng(0)
    assert all(scene.colour != scene.ground for scene in (random_scene(rng) for _ in range(300)))


def test_captions_name_what_they_promise():
    rng = np.random.default_rng(0)
    for _ in range(300):
        scene = random_scene(rng)
        caption = random_caption(scene, rng)
        words = caption.text.replace(",", " ").split()
        for name in caption.says - {"place"}:
            assert getattr(scene, name) in words
        assert ("shape" in caption.says) == (scene.shape in words)


def test_a_tenth_of_the_captions_is_empty():
    rng = np.random.default_rng(0)
    texts = [random_caption(random_scene(rng), rng).text for _ in range(1000)]
    assert 60 < texts.count("") < 140


def test_the_full_caption_names_everything():
    assert full_caption(Scene("star", "orange", "blue", "striped")) == "a photo of an orange star on a striped blue background"


def test_the_autoencoders_pictures_stay_as_they_were():
    """The codec is computed from them: other pictures would make all latents and every trained painter worthless."""
    spreads = [61.6, 81.7, 86.0, 38.5, 66.2, 77.3, 89.6, 58.6, 54.9, 72.8, 82.8, 69.7, 89.7, 87.9, 93.4, 83.8]
    crops = autoencoder.crops(np.random.default_rng(5), len(spreads))
    assert crops.std((1, 2, 3)) == pytest.approx(spreads, abs=0.2)


def test_tiles_of_the_mosaic_alternate():
    plain, mosaic = (draw(Scene("circle", "red", "blue", style=style)).astype(float) for style in ("", "mosaic"))
    tiles = (mosaic - plain)[:16, :64, 2].reshape(16, 4, 16).mean((0, 2))
    assert (tiles[0] > 10) == (tiles[1] < -10) == (tiles[2] > 10) == (tiles[3] < -10)
