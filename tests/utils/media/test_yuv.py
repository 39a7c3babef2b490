import numpy as np
import pytest
from helpers.videos import (
    BT601,
    BT709,
    LUMA_WEIGHTS,
    UNSPECIFIED,
    psnr,
    smooth_rgb,
)

from utils.media.yuv import Colour, rgb_patch, set_rgb_patch


@pytest.mark.parametrize("colour", [BT709, BT601, UNSPECIFIED, Colour(9, 9, 14)])
def test_rgb_patch_round_trip(colour):
    yuv = np.full((480 * 3 // 2, 640), 128, np.uint8)
    rgb = smooth_rgb(300, 222)
    set_rgb_patch(yuv, 34, 58, rgb, colour)
    assert psnr(rgb_patch(yuv, 34, 34 + 222, 58, 58 + 300, colour), rgb) >= 45
    luma_weights = LUMA_WEIGHTS[colour.matrix]
    luma = rgb @ np.array([luma_weights[0], 1 - sum(luma_weights), luma_weights[1]]) * 219 / 255 + 16
    assert np.abs(yuv[34 : 34 + 222, 58 : 58 + 300] - luma).max() < 1.5


def test_patch_of_yuv_comes_back_bit_exactly_and_the_rest_is_untouched():
    generator = np.random.default_rng(0)
    yuv = generator.integers(100, 140, (46 * 3 // 2, 66), dtype=np.uint8)  # any noise that RGB can express
    copy = yuv.copy()
    set_rgb_patch(copy, 10, 4, rgb_patch(yuv, 10, 40, 4, 66, BT709), BT709)
    np.testing.assert_array_equal(copy, yuv)
    set_rgb_patch(copy, 10, 4, np.zeros((30, 62, 3), np.uint8), BT709)
    assert (copy[10:40, 4:66] == 16).all()
    changed = np.zeros((46, 66), bool)
    changed[10:40, 4:66] = True
    assert (copy[:46] != yuv[:46])[~changed].sum() == 0


@pytest.mark.parametrize("bounds", [(1, 9, 0, 8), (0, 8, 0, 9), (0, 8, 60, 68), (-2, 8, 0, 8), (8, 8, 0, 8)])
def test_patch_bounds_are_checked(bounds):
    with pytest.raises(ValueError, match="odd or outside"):
        rgb_patch(np.zeros((48 * 3 // 2, 64), np.uint8), *bounds, BT709)
