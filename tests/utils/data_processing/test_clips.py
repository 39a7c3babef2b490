import numpy as np
import pytest

from utils.data_processing.clips import clip_scale, plan_clips
from utils.face.crop_geometry import TRAINING_SCALE_RANGE, check_window

WIDTH, HEIGHT = 640, 480
ONE_SHOT = np.zeros(1, int)


def face(frames: int, x: float = 320, y: float = 200, size: float = 80) -> np.ndarray:
    """Landmarks float32 [T, 68, 2]: nose bridge at (x, y), chin `size` below."""
    points = np.full((frames, 68, 2), (x, y), np.float32)
    points[:, 33] += (0, size * 0.3)
    points[:, 48] += (-size * 0.3, size * 0.6)
    points[:, 54] += (size * 0.3, size * 0.6)
    points[:, 8] += (0, size)
    return points


def plan(points, shots=ONE_SHOT, clip_length=9):
    return plan_clips(points, shots, WIDTH, HEIGHT, clip_length, "NAME")


def test_clips_are_whole_and_the_last_one_is_there():
    assert list(plan(face(36)).radius) == [0, 1, 2, 3]
    assert list(plan(face(44)).radius) == [0, 1, 2, 3]
    assert list(plan(face(8)).radius) == []
    assert list(plan(face(44), clip_length=5).radius) == list(range(8))


def test_the_radius_of_a_clip_is_that_of_its_window_at_its_scale():
    points = face(18)
    points[4, 8, 1] += 9  # one wide open mouth sets the radius of all nine frames
    radius = plan(points).radius
    for number in (0, 1):
        window = points[9 * number : 9 * number + 9]
        assert radius[number] == check_window(window, WIDTH, HEIGHT, clip_scale("NAME", number)).radius
    assert radius[0] > radius[1]


def test_unusable_clips_are_counted_by_cause_without_numbers():
    points = face(45)
    points[3] = np.nan
    points[10, 8, 1] += 60  # chin out of place
    points[20, 8, 1] += 70
    points[30:33, :, 0] -= 300
    result = plan(points)
    assert list(result.radius) == [4]
    assert result.causes == {
        "no face in some frame": 1,
        "face size jumps from radius N to N pixels": 2,
        "crop leaves the picture at the left": 1,
    }


def test_no_clip_spans_a_scene_cut():
    result = plan(face(36), shots=np.array([0, 9, 20]))
    assert list(result.radius) == [0, 1, 3] and result.causes == {"scene cut inside the clip": 1}


def test_a_clip_that_fits_at_the_smallest_scale_only_is_used_at_that():
    numbers = range(40)
    tight = [n for n in numbers if check_window(face(9), WIDTH, 300, clip_scale("NAME", n)).radius is None]
    assert check_window(face(9), WIDTH, 300, TRAINING_SCALE_RANGE[0]).radius == 44
    result = plan_clips(face(9 * 40), ONE_SHOT, WIDTH, 300, 9, "NAME")
    assert len(result.radius) == 40 and tight
    assert result.radius[tight[0]] == 44


def test_scales_are_spread_over_their_range_and_can_be_repeated():
    scales = np.array([clip_scale("NAME", number) for number in range(500)])
    low, high = TRAINING_SCALE_RANGE
    assert scales.min() >= low and scales.max() <= high and len(set(scales)) == 500
    assert scales.mean() == pytest.approx((low + high) / 2, abs=0.005)
    assert clip_scale("NAME", 3) == scales[3] != clip_scale("OTHER", 3)
