from fractions import Fraction

import pytest
from helpers.videos import (
    NTSC,
)

from utils.media.video_track import nominal_rate


@pytest.mark.parametrize(
    ("average", "base", "expected"),
    [
        (Fraction(1350, 61), Fraction(30), Fraction(22)),  # man_suit_700_vfr.mp4
        (Fraction(108300, 3673), NTSC, NTSC),  # selfie_woman_544x960_vfr.mp4
        (Fraction(2983, 100), Fraction(90000), NTSC),  # a telephone, on the clock of its container
        (Fraction(2997, 100), Fraction(2997, 100), NTSC),
        (Fraction(1000000, 33333), Fraction(1000000, 33333), Fraction(30)),
        (Fraction(25), Fraction(50), Fraction(25)),  # interlaced
        (Fraction(15), Fraction(15), Fraction(15)),
        (Fraction(120), Fraction(120), Fraction(120)),
        (Fraction(58), Fraction(1000), Fraction(60000, 1001)),
        (Fraction(1, 3), Fraction(1000), Fraction(1)),
        (None, None, Fraction(25)),
    ],
)
def test_nominal_rate(average, base, expected):
    assert nominal_rate(average, base) == expected
