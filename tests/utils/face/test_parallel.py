"""Tracking in parts finds what one pass finds, to the last bit."""

from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np
import pytest
from helpers.sample_media import BT601

from utils.executors import local_executor, run_here
from utils.face import parallel
from utils.face.parallel import table_of_parts, track_in_parts
from utils.face.tracker import FaceTracker
from utils.media.shots import ShotDetector, shot_starts
from utils.media.video_parts import find_parts
from utils.media.video_reader import VideoReader
from utils.media.video_writer import EncoderSettings, VideoWriter

FRAMES = 96
PART_FRAMES = 24


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A face that moves, a second one from frame 30 on, one covered from frame 55 to 66, and a cut at frame 75."""
    from skimage import data

    portrait = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)[0:240, 100:340]
    path = tmp_path_factory.mktemp("parallel") / "faces.mp4"
    encoder = EncoderSettings(crf=10, preset="ultrafast", gop=8)
    with VideoWriter(path, 480, 256, 25, BT601, encoder=encoder) as writer:
        for index in range(FRAMES):
            luma = np.full((256, 480), 90 if index < 75 else 160, np.uint8)
            x = round(6 + 5 * np.sin(index / 7))
            luma[8:248, x : x + 240] = portrait
            if index >= 30:
                luma[20:228, 260:468] = cv2.resize(portrait, (208, 208), interpolation=cv2.INTER_AREA)
            if 55 <= index < 66:
                luma[:, :256] = 90
            if index >= 75:
                luma = np.ascontiguousarray(luma[:, ::-1])
            writer.write(np.concatenate([luma, np.full((128, 480), 128, np.uint8)]))
    return path


def one_pass(video):
    reader = VideoReader(video)
    tracker, detector = FaceTracker(25.0), ShotDetector(25.0)
    for frame in reader.frames():
        tracker.add(frame.luma)
        detector.add(frame.luma)
    return tracker.finish(detector.starts()), detector


def in_parts(video, run=run_here):
    parts = find_parts(VideoReader(video), PART_FRAMES)
    assert len(parts.starts) == FRAMES // PART_FRAMES
    tracks, changes = track_in_parts(parts, run)
    return table_of_parts(parts, tracks, shot_starts(changes, 25.0)), changes


def assert_equal(table, other):
    for name in ("frame", "face_id", "confidence", "success", "points"):
        np.testing.assert_array_equal(getattr(table, name), getattr(other, name))


@pytest.fixture(scope="module")
def expected(video):
    return one_pass(video)


def test_parts_give_the_landmarks_and_the_cuts_of_one_pass(video, expected):
    table, detector = expected
    assert 75 in detector.starts()
    assert len(np.unique(table.face_id[table.success])) == 2
    found, changes = in_parts(video)
    assert changes == detector.changes
    assert_equal(found, table)


def test_parts_whose_trackers_do_not_agree_in_the_overlap_are_tracked_on(video, expected, monkeypatch):
    monkeypatch.setattr(parallel, "OVERLAP", 1)
    further = []

    def run(function, jobs):
        further.extend([function] * (function is parallel.track_further))
        return run_here(function, jobs)

    assert_equal(in_parts(video, run)[0], expected[0])
    assert further


def test_processes_give_the_landmarks_of_one_pass(video, expected):
    with local_executor(2) as executor:
        assert isinstance(executor, ProcessPoolExecutor)

        def run(function, jobs):
            return list(executor.map(function, *zip(*jobs, strict=True)))

        assert_equal(in_parts(video, run)[0], expected[0])
