import numpy as np
import pytest
from helpers.faces import face

from utils.dubbing.references import parse_reference_frames, random_references, spread_references
from utils.errors import UserError
from utils.face.crop_plan import plan_crops
from utils.face.landmarks import lip_opening


def make_plan(openings):
    frames = []
    for opening in openings:
        points = face()
        points[36, 0], points[45, 0] = 280, 360
        points[62, 1], points[66, 1] = 260, 260 + opening
        frames.append(points)
    return plan_crops(np.stack(frames), np.array([0]), 640, 480, 25.0)


def test_spread_goes_from_closed_to_open_and_is_repeatable():
    openings = np.random.default_rng(1).uniform(0, 20, 200)
    plan = make_plan(openings)
    chosen = spread_references(plan, 640, 480, lambda frames: [1.0] * len(frames))
    found = lip_opening(plan.points[chosen])
    assert (np.diff(found) > 0).all()
    assert found[0] < 0.05 * 20 / 80 + 0.01
    assert found[-1] > 0.9 * 20 / 80
    assert chosen == spread_references(plan, 640, 480, lambda frames: [1.0] * len(frames))


def test_spread_prefers_the_sharper_frame():
    plan = make_plan([0, 0, 0, 5, 5, 5, 10, 10, 10, 15, 15, 15, 20, 20, 20])
    sharp = {1, 4, 7, 10, 13}
    assert set(spread_references(plan, 640, 480, lambda frames: [float(f in sharp) for f in frames])) == sharp


@pytest.mark.parametrize("count", [1, 2, 4, 5, 7])
def test_few_frames_are_repeated(count):
    plan = make_plan(range(count))
    for chosen in (
        spread_references(plan, 640, 480, lambda frames: [0.0] * len(frames)),
        random_references(plan, 1),
        parse_reference_frames("0", plan),
    ):
        assert len(chosen) == 5
        assert set(chosen) <= set(range(count))


def test_random_depends_on_the_seed_alone():
    plan = make_plan(range(50))
    assert random_references(plan, 3) == random_references(plan, 3) != random_references(plan, 4)


@pytest.mark.parametrize("text", ["a,b", "", "1,2,3,4,5,6", "99", "-1", "2"])
def test_wrong_reference_frames_are_named(text):
    plan = make_plan(range(10))
    plan.radius[2] = 0
    with pytest.raises(UserError, match="--reference_frames"):
        parse_reference_frames(text, plan)
