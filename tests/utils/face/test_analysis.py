import pickle
from dataclasses import fields, replace
from fractions import Fraction

import numpy as np
import pytest
from helpers.sample_media import BT601, write_face_video

from utils.errors import UserError
from utils.face.analysis import NoFaceError, analyze_video, find_shots, track_faces
from utils.face.landmark_cache import landmark_cache
from utils.face.openface_csv import read_openface_csv, write_openface_csv
from utils.media.video_reader import VideoReader
from utils.media.video_writer import VideoWriter


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_face_video(tmp_path_factory.mktemp("analysis") / "face.mp4", 12)


def test_detected_landmarks_are_those_of_the_csv_that_keeps_them(video, tmp_path):
    tracks = track_faces(VideoReader(video))
    write_openface_csv(tmp_path / "a.csv", tracks.table, 25)
    read = read_openface_csv(tmp_path / "a.csv")
    for name in ("frame", "face_id", "confidence", "success", "points"):
        np.testing.assert_array_equal(getattr(read, name), getattr(tracks.table, name), err_msg=name)
    assert tracks.frame_count == 12
    assert tracks.shots.tolist() == [0]
    shots, count = find_shots(VideoReader(video))
    assert (shots.tolist(), count) == ([0], 12)


def test_a_second_run_finds_the_landmarks_of_the_first_and_mends_a_damaged_cache(video, tmp_path, monkeypatch, caplog):
    first = analyze_video(video, landmark_dir=tmp_path)
    cache = landmark_cache(video, tmp_path)
    assert cache.exists()
    with monkeypatch.context() as patch:
        patch.setattr("utils.face.analysis.FaceTracker", None)  # the second run must not detect
        second = analyze_video(video, landmark_dir=tmp_path)
    np.testing.assert_array_equal(first.plan.points, second.plan.points)
    cache.write_text("cut off")
    third = analyze_video(video, landmark_dir=tmp_path)
    assert "landmarks are detected again" in caplog.text
    np.testing.assert_array_equal(first.plan.points, third.plan.points)


def test_an_analyzed_video_can_be_sent_to_another_process(video, tmp_path):
    here = analyze_video(video, landmark_dir=tmp_path)
    there = pickle.loads(pickle.dumps(here))
    np.testing.assert_array_equal(here.plan.points, there.plan.points)
    np.testing.assert_array_equal(here.reader.times, there.reader.times)
    for one, other in zip(here.reader.play([3, 1]), there.reader.play([3, 1]), strict=True):
        np.testing.assert_array_equal(one.yuv, other.yuv)


def test_errors_name_the_file_and_no_option(video, tmp_path):
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"^\S+bad\.csv has no column 'frame'"):
        analyze_video(video, tmp_path / "bad.csv")
    with pytest.raises(UserError, match=r"^\S+none\.mp4 does not exist"):
        analyze_video(tmp_path / "none.mp4")
    with pytest.raises(NoFaceError, match=r"^no face was found in \S+grey\.mp4"):
        analyze_video(write_grey(tmp_path / "grey.mp4"))


def write_grey(path):
    with VideoWriter(path, 64, 64, Fraction(25), BT601) as writer:
        for _ in range(3):
            writer.write(np.full((96, 64), 128, np.uint8))
    return path


def test_several_faces_are_listed(video, tmp_path, caplog):
    caplog.set_level("INFO")
    table = track_faces(VideoReader(video)).table
    analyze_video(video)
    assert "face_id" not in caplog.text
    second = replace(table, face_id=table.face_id + 3, points=table.points / 2)
    both = [np.concatenate([getattr(t, field.name) for t in (table, second)]) for field in fields(table)]
    write_openface_csv(tmp_path / "two.csv", type(table)(*both), 25)
    analyze_video(video, tmp_path / "two.csv")
    assert "2 faces: face_id 0: frames 0 to 11, " in caplog.text and "face_id 3: frames 0 to 11, " in caplog.text
