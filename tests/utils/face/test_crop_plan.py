import numpy as np
import pytest
from helpers.faces import face

from utils.face.crop_plan import plan_crops


def plan(points, shots=(0,), **options):
    return plan_crops(np.stack(points), np.array(shots), 640, 480, 25.0, **options)


def test_radius_is_constant_in_a_shot_and_covers_nearly_all_frames():
    sizes = 50 + np.random.default_rng(0).normal(0, 1, 100)
    result = plan([face(size=s) for s in sizes])
    assert len(set(result.radius.tolist())) == 1
    assert (result.radius[0] >= np.floor(sizes * 1.05)).mean() > 0.97


def test_one_wrong_frame_does_not_enlarge_the_shot():
    points = [face() for _ in range(100)]
    points[40] = face(size=90)
    assert set(plan(points).radius.tolist()) == set(plan([face() for _ in range(100)]).radius.tolist())


def test_radius_changes_at_a_cut():
    result = plan([face(size=40)] * 20 + [face(size=80)] * 20, shots=(0, 20))
    assert set(result.radius[:20].tolist()).isdisjoint(result.radius[20:].tolist())


def test_radius_follows_a_person_who_comes_nearer():
    result = plan([face(size=s) for s in np.linspace(30, 80, 200)])
    assert result.radius[0] < 1.35 * 30 * 1.05 < result.radius[-1]
    assert np.abs(np.diff(result.radius)).max() <= 4


def test_window_radius_is_the_largest_of_five_frames():
    points = [face() for _ in range(20)]
    points[10] = face(size=60)
    result = plan(points, crop_radius="window")
    changed = np.flatnonzero(result.radius != result.radius[0])
    assert changed.tolist() == [8, 9, 10, 11, 12]


def test_frames_next_to_a_gap_fade_but_not_next_to_a_cut():
    missing = np.full((68, 2), np.nan, np.float32)
    result = plan([face()] * 20 + [missing] * 5 + [face()] * 20, shots=(0, 25))
    assert (result.weight[20:25] == 0).all()
    assert (np.diff(result.weight[:21]) <= 0).all()
    assert 0 < result.weight[19] < result.weight[17] < 1
    assert result.weight[0] == 1
    assert (result.weight[25:] == 1).all()


@pytest.mark.parametrize("point", [(320, 520), (-60, 200)])
def test_a_face_mostly_outside_the_picture_is_left_alone(point):
    result = plan([face(), face(x=point[0], y=point[1])])
    assert result.usable.tolist() == [True, False]


def test_a_face_at_the_edge_is_dubbed():
    assert plan([face(x=30, y=350)]).usable.all()
