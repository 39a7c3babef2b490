"""Moved lips, on a real face (NASA's portrait of Eileen Collins, public domain)."""

import itertools

import numpy as np
import pytest
from skimage import data

from utils.dubbing.lip_warp import InnerMouth, LipTarget, Mouth, cut_inner_mouth, move_lips
from utils.face.landmarks import (
    INNER_LIP_LOWER,
    INNER_LIP_TOP,
    INNER_LIP_UPPER,
    MOUTH,
    eye_distance,
    lip_opening,
    mouth_width,
)
from utils.face.tracker import FaceTracker
from utils.media.yuv import Colour, planes, set_rgb_patch

TWICE = 2
"""The portrait is enlarged: its mouth is 35 pixels wide."""


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """I420, 1024 x 1024."""
    yuv = np.empty((1536, 1024), np.uint8)
    picture = np.ascontiguousarray(data.astronaut().repeat(TWICE, 0).repeat(TWICE, 1))
    set_rgb_patch(yuv, 0, 0, picture, Colour(matrix=5, primaries=5, transfer=6))
    return yuv


def find_landmarks(yuv: np.ndarray) -> np.ndarray:
    """Landmarks [68, 2] by the detector."""
    tracker = FaceTracker(25.0)
    for _ in range(3):
        tracker.add(planes(yuv)[0])
    return tracker.finish(np.array([0])).points[1]


@pytest.fixture(scope="module")
def points(portrait) -> np.ndarray:
    return find_landmarks(portrait)


def unmoved(mouth: Mouth) -> LipTarget:
    return LipTarget(mouth.gap / mouth.unit, mouth.width)


def middle_of_lips(mouth: Mouth) -> float:
    """y of the line between the lips in the middle of the mouth."""
    top, bottom = mouth.edges(np.zeros(1))
    return float(mouth._to_pixels(np.zeros(1), (top + bottom) / 2)[1][0])


def teeth(yuv: np.ndarray, points: np.ndarray) -> float:
    """Fraction of the middle of the mouth that is light and hardly red."""
    left, top = points[MOUTH].min(0).astype(int)
    right, bottom = points[MOUTH].max(0).astype(int)
    rows, columns = slice(top // 2 - 2, bottom // 2 + 10), slice(left // 2 + 10, right // 2 - 10)
    luma, _, red = planes(yuv)
    return float(((luma[::2, ::2][rows, columns] > 150) & (red[rows, columns] < 136)).mean())


def test_lips_that_need_not_move_stay_as_they_are(portrait, points):
    mouth = Mouth(points, planes(portrait)[0])
    assert np.abs(move_lips(portrait, mouth, unmoved(mouth)).astype(int) - portrait).max() <= 1


@pytest.mark.parametrize("opening", [0.0, 0.05, 0.15])
def test_a_detector_finds_the_opening_that_was_asked_for(portrait, points, opening):
    moved = move_lips(portrait, Mouth(points, planes(portrait)[0]), LipTarget(opening, mouth_width(points)))
    assert float(lip_opening(find_landmarks(moved))) == pytest.approx(opening, abs=0.03)


def test_a_detector_finds_the_width_that_was_asked_for(portrait, points):
    mouth = Mouth(points, planes(portrait)[0])
    narrow, wide = (
        mouth_width(find_landmarks(move_lips(portrait, mouth, LipTarget(unmoved(mouth).opening, factor * mouth.width))))
        for factor in (0.88, 1.0)
    )
    assert narrow / wide == pytest.approx(0.9, abs=0.04)


def test_closed_lips_hide_the_teeth_and_keep_their_colour(portrait, points):
    mouth = Mouth(points, planes(portrait)[0])
    closed = move_lips(portrait, mouth, LipTarget(0.0, mouth.width))
    assert teeth(closed, points) < 0.2 * teeth(portrait, points)


def test_an_open_mouth_is_dark_below_its_teeth(portrait, points):
    mouth = Mouth(points, planes(portrait)[0])
    opened = move_lips(portrait, mouth, LipTarget(mouth.gap / mouth.unit + 0.1, mouth.width))
    x, y = (points[62] + points[66]) / 2
    below = planes(opened)[0][round(y + 0.06 * mouth.unit), round(x) - 4 : round(x) + 4]
    assert below.max() < 80
    assert teeth(opened, points) > 0.5 * teeth(portrait, points)


def test_half_a_weight_is_half_of_the_way(portrait, points):
    mouth = Mouth(points, planes(portrait)[0])
    target = LipTarget(mouth.gap / mouth.unit + 0.08, mouth.width)
    half = LipTarget(mouth.gap / mouth.unit + 0.04, mouth.width)
    assert np.array_equal(move_lips(portrait, mouth, target, 0.5), move_lips(portrait, mouth, half))
    assert np.array_equal(move_lips(portrait, mouth, target, 0.0), move_lips(portrait, mouth, unmoved(mouth)))


def test_what_is_far_from_the_mouth_keeps_its_value(portrait, points):
    mouth = Mouth(points, planes(portrait)[0])
    moved = move_lips(portrait, mouth, LipTarget(0.16, 0.85 * mouth.width))
    changed = np.argwhere(moved[:1024] != portrait[:1024])[:, ::-1]
    distances = np.linalg.norm(changed - points[MOUTH].mean(0), axis=1)
    assert 20 < distances.max() < 1.2 * mouth.unit


def test_the_line_between_closed_lips_is_found_where_landmarks_miss_it(portrait, points):
    closed = move_lips(portrait, Mouth(points, planes(portrait)[0]), LipTarget(0.0, mouth_width(points)))
    truth = find_landmarks(closed)
    unit = float(eye_distance(truth))
    line = middle_of_lips(Mouth(truth, planes(closed)[0]))
    for shift in (-0.05, 0.05):
        wrong = truth.copy()
        wrong[MOUTH, 1] += shift * unit
        assert abs(middle_of_lips(Mouth(wrong, planes(closed)[0])) - line) < 0.02 * unit


def test_the_inside_of_another_mouth_is_shown_where_this_one_is_closed(portrait, points):
    mouth = Mouth(points, planes(portrait)[0])
    other = cut_inner_mouth(portrait, mouth)
    assert isinstance(other, InnerMouth) and other.yuv.size < portrait.size / 4
    closed = move_lips(portrait, mouth, LipTarget(0.0, mouth.width))
    here = Mouth(find_landmarks(closed), planes(closed)[0])
    target = LipTarget(0.08, mouth.width)
    assert teeth(move_lips(closed, here, target), points) < 0.3 * teeth(portrait, points)
    assert teeth(move_lips(closed, here, target, other=other), points) > 0.5 * teeth(portrait, points)


def test_a_mouth_at_the_edge_of_the_frame_or_beyond_it_is_no_error(portrait, points):
    shut = points.copy()
    shut[INNER_LIP_LOWER] = shut[INNER_LIP_UPPER]
    places = (-points[INNER_LIP_TOP], 1024 - points[INNER_LIP_TOP], np.array([3000, 0]))
    for lips, shift in itertools.product((points, shut), places):
        moved = lips + shift.astype(np.float32)
        mouth = Mouth(moved, planes(portrait)[0])
        assert move_lips(portrait, mouth, LipTarget(0.1, mouth.width)).shape == portrait.shape
    assert cut_inner_mouth(portrait, mouth) is None


@pytest.mark.filterwarnings("error")
def test_landmarks_that_coincide_are_no_error(portrait, points):
    flat = points.copy()
    flat[MOUTH] = flat[MOUTH].mean(0)
    for odd in (flat, np.full_like(points, 300.0)):
        mouth = Mouth(odd, planes(portrait)[0])
        assert move_lips(portrait, mouth, LipTarget(0.1, 0.6)).shape == portrait.shape
