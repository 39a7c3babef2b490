import numpy as np
import pytest
import torch
from helpers.landmarks import landmark_table, spiral

from utils.errors import UserError
from utils.face.landmarks import LEFT_EYE, RIGHT_EYE, fill_gaps, follow_face, lip_opening, lip_shapes, opening_and_width

ONE_SHOT = np.array([0])


def test_the_larger_face_is_followed_whatever_its_id_and_row():
    rows = []
    for frame in range(20):
        small, large = (
            (frame, frame % 2, spiral(100, 100, 20)),
            (frame, 1 - frame % 2, spiral(300 + frame, 200, 50)),
        )
        rows += [small, large] if frame % 3 else [large, small]
    points = follow_face(landmark_table(rows), 20, ONE_SHOT)
    np.testing.assert_allclose(points[:, 0, 0], 350 + np.arange(20))


def test_a_face_is_chosen_by_id():
    rows = [
        (frame, number, spiral(100 + 200 * number, 100, 20 + 20 * number)) for frame in range(5) for number in (0, 1)
    ]
    assert follow_face(landmark_table(rows), 5, ONE_SHOT, face=0)[0, 0, 0] == 120
    with pytest.raises(UserError, match="no face 7; the landmarks have 0, 1"):
        follow_face(landmark_table(rows), 5, ONE_SHOT, face=7)


def test_each_shot_has_its_own_face_and_failed_rows_are_missing():
    rows = [(frame, 0, spiral(100, 100), frame != 3) for frame in range(10)]
    rows += [(frame, 0, spiral(400, 100)) for frame in range(10, 20)]
    points = follow_face(landmark_table(rows), 22, np.array([0, 10]))
    assert np.isnan(points[3]).all()
    assert np.isnan(points[20:]).all()
    assert points[9, 0, 0] == 150
    assert points[10, 0, 0] == 450


def test_the_same_person_after_a_gap_is_followed_on():
    rows = [(frame, 0, spiral(100, 100)) for frame in range(10)] + [
        (frame, 3, spiral(300, 100)) for frame in range(90, 99)
    ]
    points = follow_face(landmark_table(rows), 99, ONE_SHOT)
    assert points[95, 0, 0] == 350


def test_short_gaps_are_interpolated_and_long_ones_stay():
    points = np.stack([spiral(100 + i, 100) for i in range(60)])
    points[5:8] = np.nan
    points[20:45] = np.nan
    filled = fill_gaps(points, ONE_SHOT, 10)
    np.testing.assert_allclose(filled[5:8, 0, 0], [155, 156, 157])
    assert np.isnan(filled[20:45]).all()
    assert np.isnan(points[5:8]).all()


def test_gaps_are_not_bridged_over_a_cut_but_held_up_to_it():
    points = np.stack([spiral(100 if i < 10 else 400, 100) for i in range(40)])
    points[8:13] = np.nan
    points[30:] = np.nan
    filled = fill_gaps(points, np.array([0, 10]), 10)
    assert filled[8:10, 0, 0].tolist() == [150, 150]
    assert filled[10:13, 0, 0].tolist() == [450] * 3
    assert np.isnan(filled[30:]).all()


def upright_face(opening=6.0, width=40.0):
    """[68, 2] points whose eyes are 100 pixels apart on average, and whose inner lips are open by `opening` pixels."""
    points = np.zeros((68, 2))
    points[LEFT_EYE], points[RIGHT_EYE] = (0, 0), (100, 0)
    points[27:36] = (50, 40)
    points[48:68] = (50, 80)
    points[48, 0], points[54, 0] = 50 - width / 2, 50 + width / 2
    points[62, 1], points[66, 1] = 80 - opening / 2, 80 + opening / 2
    return points


def test_lip_shapes_do_not_change_with_position_size_and_tilt():
    turn = np.array([[np.cos(0.3), np.sin(0.3)], [-np.sin(0.3), np.cos(0.3)]])
    still = [upright_face(opening) for opening in (0, 5, 10)]
    moved = [1.7 * face @ turn + (30, -12) for face in still]
    np.testing.assert_allclose(lip_shapes(np.array(moved)), lip_shapes(np.array(still)), atol=1e-4)
    opening, width = opening_and_width(lip_shapes(np.array(still)))
    np.testing.assert_allclose(opening, [-1, 0, 1], atol=1e-5)  # 5 % of the eye distance, beyond the median
    np.testing.assert_allclose(width, 0, atol=1e-5)


def test_opening_and_width_are_the_same_of_tensors():
    shapes = np.random.default_rng(0).normal(size=(3, 40)).astype(np.float32)
    for array, tensor in zip(opening_and_width(shapes), opening_and_width(torch.from_numpy(shapes)), strict=True):
        np.testing.assert_array_equal(array, tensor.numpy())


def test_lip_opening_is_a_fraction_of_the_eye_distance():
    assert lip_opening(upright_face(opening=6.0)) == pytest.approx(0.06)
