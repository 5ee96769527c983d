"""Colour drift: zero for the same images, and the larger the further colours move together."""

import numpy as np
import pytest
from PIL import Image

from lib_finetune.evaluation import colour
from tests.fakes.pictures import draw


@pytest.fixture
def drawn(tmp_path):
    folder = draw(tmp_path / "drawn", 4)
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])


def tinted(pictures, red, blue=0):
    return np.clip(pictures.astype(int) + np.array([red, 0, blue]), 0, 255).astype(np.uint8)


def test_white_is_a_hundred_from_black():
    white, black = np.full((1, 8, 8, 3), 255, np.uint8), np.zeros((1, 8, 8, 3), np.uint8)
    assert colour.lab(white)[0, 0, 0] == pytest.approx([100, 0, 0], abs=0.1) and colour.lab(black)[0, 0, 0] == pytest.approx(
        [0, 0, 0], abs=0.1
    )
    assert colour.drift(black, white) == pytest.approx(100, abs=0.1)


def test_a_tint_drifts_the_further_the_stronger_it_is(drawn):
    found = [colour.drift(drawn, tinted(drawn, red)) for red in (0, 20, 40, 80)]
    assert found[0] == 0 and found == sorted(found) and found[-1] > 20 and found[1] > 2.3


def test_lost_contrast_drifts_though_the_mean_stays():
    grey = np.full((2, 8, 8, 3), 119, np.uint8)
    striped = grey.copy()
    striped[:, ::2], striped[:, 1::2] = 150, 89
    assert colour.lab(grey).mean((1, 2)) == pytest.approx(colour.lab(striped).mean((1, 2)), abs=1) and colour.drift(striped, grey) > 10


def test_changes_in_opposite_directions_are_what_pictures_show_and_no_drift(drawn):
    pair = np.stack([drawn[0], drawn[0]])
    apart = np.concatenate([tinted(pair[:1], 30), tinted(pair[1:], -30)])
    assert colour.drift(pair, apart) < 0.3 * colour.drift(pair, tinted(pair, 30))
