import time

import cv2
import numpy as np
import pytest

from utils.errors import UserError
from utils.face import tracker as face_tracker
from utils.face.crop_geometry import frame_radius
from utils.face.landmarks import follow_face, lip_opening
from utils.face.openface_csv import read_openface_csv
from utils.face.tracker import FaceTracker
from utils.media.video_reader import VideoReader

ONE_SHOT = np.array([0])


@pytest.fixture(scope="module")
def portrait():
    """Luma [512, 512] of a public-domain face, about 90 pixels large."""
    from skimage import data

    return cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)


def shifted(picture, x, y=0.0):
    return cv2.warpAffine(
        picture, np.float32([[1, 0, x], [0, 1, y]]), picture.shape[::-1], borderMode=cv2.BORDER_REFLECT
    )


def track(frames, shots=ONE_SHOT, rate=25.0):
    tracker = FaceTracker(rate)
    for frame in frames:
        tracker.add(frame)
    return tracker.finish(shots)


def test_a_moving_face_is_followed_without_lag(portrait):
    x = 20 * np.sin(np.arange(40) / 5)
    table = track([shifted(portrait, shift) for shift in x])
    assert table.success.all()
    assert table.frame.tolist() == list(range(40))
    found = table.points[:, :, 0].mean(axis=1)
    assert np.abs(found - found.mean() - (x - x.mean())).max() < 2
    errors = [np.abs(np.roll(found - found.mean(), -lag) - (x - x.mean()))[5:-5].mean() for lag in (-1, 0, 1)]
    assert errors[1] < min(errors[0], errors[2])


def test_smoothing_stops_at_a_cut(portrait):
    frames = [portrait] * 12 + [shifted(portrait, 150, 60)] * 12
    table = track(frames, np.array([0, 12]))
    points = follow_face(table, 24, np.array([0, 12]))
    assert np.abs(points[11] - points[0]).max() < 1
    assert np.abs(points[12] - points[23]).max() < 1
    np.testing.assert_allclose((points[12] - points[11]).mean(axis=0), (150, 60), atol=4)


@pytest.mark.parametrize(("side", "size"), [(45, (480, 640)), (70, (1080, 1920))])
def test_small_faces_are_found(portrait, side, size):
    face = portrait[0:300, 70:370]
    frame = np.full(size, 110, np.uint8)
    height = round(300 * side / 90)
    frame[20 : 20 + height, 50 : 50 + height] = cv2.resize(face, (height, height), interpolation=cv2.INTER_AREA)
    table = track([frame] * 6)
    assert table.success.all()


def test_two_faces_keep_their_numbers(portrait):
    face = portrait[0:260, 90:350]
    frames = []
    for i in range(35):
        frame = np.full((300, 640), 90, np.uint8)
        frame[20:280, 20 + i : 280 + i] = face
        frame[90:246, 400:556] = cv2.resize(face, (156, 156), interpolation=cv2.INTER_AREA)
        frames.append(frame)
    table = track(frames)
    big, small = (table.points[(table.face_id == number) & table.success] for number in (0, 1))
    assert len(big) == 35
    assert len(small) >= 34
    assert np.ptp(big[0][:, 0]) > np.ptp(small[0][:, 0])
    np.testing.assert_allclose(big[-1].mean(axis=0) - big[0].mean(axis=0), (34, 0), atol=3)


def test_frames_without_a_face_are_rows_without_success(portrait):
    empty = np.full_like(portrait, 80)
    table = track([portrait] * 20 + [empty] * 30 + [portrait] * 20, np.array([0, 20, 50]))
    success = np.zeros(70, bool)
    success[table.frame[table.success]] = True
    assert success[:20].all()
    assert not success[20:50].any()
    assert success[50:].all()
    assert sorted(set(table.frame.tolist())) == list(range(70))


def test_a_face_that_is_covered_without_a_cut_is_given_up(portrait):
    covered = portrait.copy()
    covered[60:260, 150:300] = 128
    table = track([portrait] * 20 + [covered] * 40)
    assert table.frame[table.success].max() < 21


def test_a_video_without_a_face_gives_no_landmarks():
    noise = np.random.default_rng(0).integers(0, 255, (240, 320), np.uint8)
    assert not track([noise] * 8).success.any()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(face_tracker.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install face_recognition_models"):
        FaceTracker(25.0)


def jitter(points):
    """Mean absolute second difference of the points that set the crop, in pixels."""
    return np.abs(np.diff(points[:, [29, 33, 48, 54]], 2, axis=0)).mean()


@pytest.mark.clips
def test_against_openface(clips_dir):
    truth = read_openface_csv(clips_dir / "openface_640x480.csv").points
    frames = [frame.luma for frame in VideoReader(clips_dir / "openface_640x480.mp4").frames()]
    began = time.process_time()
    table = track(frames)
    seconds = time.process_time() - began
    points = follow_face(table, len(frames), ONE_SHOT)
    assert not np.isnan(points).any()
    eyes = np.linalg.norm(truth[:, 36] - truth[:, 45], axis=1)
    assert (np.linalg.norm(points - truth, axis=2).mean(axis=1) / eyes).mean() <= 0.035
    ratio = np.abs(frame_radius(points) / frame_radius(truth) - 1)
    assert ratio.mean() <= 0.05
    assert (ratio <= 0.08).mean() >= 0.95
    assert jitter(points) <= jitter(truth)
    assert np.corrcoef(lip_opening(points), lip_opening(truth))[0, 1] >= 0.83
    # 60 frames a second on two cores, in processor time so that a busy machine does not matter.
    assert len(frames) / seconds >= 30


@pytest.mark.clips
@pytest.mark.parametrize("name", ["man_shoulders_410.mp4", "man_suit_700_vfr.mp4", "hdtf_woman_turning_512.mp4"])
def test_turned_faces_are_not_lost(clips_dir, name):
    frames = [frame.luma for frame in VideoReader(clips_dir / name).frames()]
    table = track(frames)
    assert table.success.all()
    assert set(table.face_id.tolist()) == {0}
