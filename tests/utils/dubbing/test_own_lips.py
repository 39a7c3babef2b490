"""What a person's own lips are to become, told by generated ones."""

import numpy as np
import pytest

from utils.dubbing.face_blend import GeneratedFace
from utils.dubbing.face_geometry import FaceGeometry
from utils.dubbing.own_lips import SPEECH_MAX, SPEECH_MEAN, SPEECH_STD, OwnLips, is_still_mouth
from utils.face.crop_plan import plan_crops
from utils.face.landmarks import lip_opening

FRAMES = 100
ONE_SHOT = np.zeros(1, int)
SHAPES = np.array([[0.5, 9.0], [1.0, 10.0], [1.5, 11.0]])
"""Generated lips by the mouth reader: in the middle the mean, and one standard deviation lower and higher nearly."""


def landmarks(opening: np.ndarray, turn: np.ndarray | float = 0.0) -> np.ndarray:
    """A face 80 pixels wide whose lips are so many pixels open, [N, 68, 2]; its nose lies `turn` aside."""
    points = np.full((68, 2), (128.0, 110.0))
    angle = np.linspace(0, np.pi, 17)
    points[:17] = np.stack([128 - 45 * np.cos(angle), 100 + 55 * np.sin(angle)], -1)
    points[36:42], points[42:48] = (103, 90), (153, 90)
    points[36], points[45] = (98, 90), (158, 90)
    points[27:36] = np.stack([np.full(9, 128), np.linspace(92, 118, 9)], -1)
    around = np.linspace(np.pi, 3 * np.pi, 13)[:12]
    points[48:60] = np.stack([128 + 18 * np.cos(around), 132 + 7 * np.sin(around)], -1)
    around = np.linspace(np.pi, 3 * np.pi, 9)[:8]
    points[60:68] = np.stack([128 + 14 * np.cos(around), np.full(8, 132)], -1)
    points = np.repeat(points[None], FRAMES, 0)
    points[:, 65:68, 1] += np.broadcast_to(opening, FRAMES)[:, None]
    points[:, 30, 0] += turn
    return points.astype(np.float32)


def generated_lips(shapes: np.ndarray) -> list[GeneratedFace]:
    return [GeneratedFace(0, None, None, None, None, shape) for shape in shapes]


def own_lips(points: np.ndarray, frames: range = range(0)) -> tuple[OwnLips, FaceGeometry]:
    plan = plan_crops(points, ONE_SHOT, 256, 256, 25.0)
    geometry = FaceGeometry(plan, ONE_SHOT)
    blank = np.full((384, 256), 128, np.uint8)
    seen = [GeneratedFace(frame, blank, plan.box(frame), None, None, None) for frame in frames]
    return OwnLips(geometry, seen, generated_lips(SHAPES)), geometry


def chosen_frame(lips: OwnLips, number: int, opening: float) -> int:
    """Frame whose mouth shows its inside in frame `number`."""
    chosen = lips._inner_mouth(number, opening)
    return next(frame for frame, inner in enumerate(lips._inner) if inner is chosen)


TALKING = 4 + 3 * np.sin(np.arange(FRAMES) / 5)


def test_lips_have_the_mean_and_the_motion_of_this_person():
    lips, geometry = own_lips(landmarks(TALKING))
    openings = lip_opening(geometry.points)
    low, middle, high = (lips.target(shape, 0.0).opening for shape in SHAPES)
    assert middle == pytest.approx(openings.mean(), abs=1e-3)
    assert high - low == pytest.approx(2 * 1.2 * openings.std(), rel=0.1)


def test_no_opening_is_wider_than_this_person_s():
    lips, geometry = own_lips(landmarks(TALKING))
    openings = lip_opening(geometry.points)
    assert lips.target(np.array([30.0, 10.0]), 0.0).opening <= openings.max()
    assert lips.target(np.array([-30.0, 10.0]), 0.0).opening >= openings.min()


def test_a_still_mouth_moves_like_one_that_speaks():
    points = landmarks(5.0)
    lips, geometry = own_lips(points)
    assert is_still_mouth(geometry, generated_lips(SHAPES))
    assert not is_still_mouth(geometry, generated_lips(SHAPES / 20))
    assert not is_still_mouth(own_lips(landmarks(TALKING))[1], generated_lips(SHAPES))
    low, middle, high = (lips.target(shape, 0.0) for shape in SHAPES)
    assert middle.opening == pytest.approx(SPEECH_MEAN, abs=1e-3)
    assert high.opening - low.opening == pytest.approx(2 * 1.2 * SPEECH_STD, rel=0.1)
    assert 1.1 < high.width / low.width < 1.2
    assert lips.target(np.array([30.0, 10.0]), 0.0).opening == SPEECH_MAX


def test_closed_lips_are_as_closed_as_this_person_s():
    lips, geometry = own_lips(landmarks(TALKING))
    wide = SHAPES[2]
    closed = lips.target(wide, 1.0).opening
    assert closed == pytest.approx(np.quantile(lip_opening(geometry.points), 0.02), abs=1e-3)
    assert closed < lips.target(wide, 0.5).opening < lips.target(wide, 0.0).opening
    assert own_lips(landmarks(5.0))[0].target(wide, 1.0).opening == 0


def test_the_inside_comes_from_a_mouth_that_is_as_wide_open_with_the_head_turned_likewise():
    turn = np.where(np.arange(FRAMES) < FRAMES // 2, 0.0, 8.0)
    lips, geometry = own_lips(landmarks(TALKING, turn), range(FRAMES))
    assert own_lips(landmarks(5.0), range(FRAMES))[0]._inner_mouth(0, 0.1) is None
    for number in (10, 90):
        for opening in (0.03, 0.06, 0.1):
            found = chosen_frame(lips, number, opening)
            assert (found < FRAMES // 2) == (number < FRAMES // 2)
            assert -0.01 < lip_opening(geometry.points[found]) - opening < 0.04


def test_the_inside_stays_until_another_is_clearly_better():
    lips, _ = own_lips(landmarks(TALKING), range(FRAMES))
    chosen = [chosen_frame(lips, 10, opening) for opening in np.linspace(0.06, 0.07, 20)]
    assert len(set(chosen)) <= 3
