"""The profile that is made of primaries, white and a curve."""

import io

import numpy as np
import pytest
from PIL import ImageCms

from lib_finetune.data.colour_profile import SRGB_CURVE, SRGB_PRIMARIES, SRGB_WHITE, matrix_profile

ADOBE = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
WIDE_D50 = (0.7347, 0.2653, 0.1152, 0.8264, 0.1566, 0.0177)


@pytest.mark.parametrize(
    ("primaries", "white", "columns"),
    [  # Lindbloom, "RGB/XYZ matrices", with the white adapted to D50 by Bradford
        (SRGB_PRIMARIES, SRGB_WHITE, ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))),
        (ADOBE, SRGB_WHITE, ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))),
        (WIDE_D50, (0.3457, 0.3585), ((0.71610, 0.25819, 0.0), (0.10093, 0.72494, 0.05178), (0.14719, 0.01687, 0.77343))),  # D50 already
    ],
)
def test_the_primaries_are_those_of_the_tables(primaries, white, columns):
    profile = ImageCms.ImageCmsProfile(io.BytesIO(matrix_profile(primaries, white, SRGB_CURVE))).profile
    found = [profile.red_colorant[0], profile.green_colorant[0], profile.blue_colorant[0]]
    assert np.allclose(found, columns, atol=6e-4)


@pytest.mark.parametrize(
    ("primaries", "white"),
    [
        ((0.64, 0.33, 0.3, 0.0, 0.15, 0.06), SRGB_WHITE),  # no light
        ((0.1, 0.1, 0.2, 0.2, 0.3, 0.3), SRGB_WHITE),  # on a line
        (SRGB_PRIMARIES[:4], SRGB_WHITE),
        (SRGB_PRIMARIES, (0.3127, -0.1)),
    ],
)
def test_what_is_no_colours_is_refused(primaries, white):
    with pytest.raises(ValueError, match="no colours|on a line"):
        matrix_profile(primaries, white, SRGB_CURVE)
