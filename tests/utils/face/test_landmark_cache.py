"""Landmarks detected by another process, or by several, are those that this process would detect."""

import multiprocessing
from functools import partial
from types import SimpleNamespace

import pytest
from helpers import sample_media
from helpers.sample_media import write_face_video

from utils.face import analysis, landmark_cache
from utils.face.analysis import analyze_video, cache_landmarks
from utils.face.landmark_cache import landmarks_in_background
from utils.media.video_parts import find_parts
from utils.media.video_writer import EncoderSettings


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_face_video(tmp_path_factory.mktemp("ahead") / "face.mp4", 20, size=256)


@pytest.fixture(scope="module")
def csv(video, tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected")
    analyze_video(video, landmark_dir=folder)
    return next(folder.iterdir())


@pytest.fixture
def detectors():
    """The processes that this test has started: other tests of this process may have left servers."""
    others = set(multiprocessing.active_children())
    return lambda: [process for process in multiprocessing.active_children() if process not in others]


@pytest.fixture
def before_torch(monkeypatch):
    """As in a script that has not loaded PyTorch yet, on two cores."""
    monkeypatch.setattr(landmark_cache, "usable_cores", lambda: 2)
    monkeypatch.setattr(landmark_cache, "sys", SimpleNamespace(modules={}))


def test_what_is_detected_ahead_is_what_is_detected_later(video, csv, tmp_path, before_torch, detectors):
    with landmarks_in_background(video, tmp_path) as wait:
        wait(lambda stage, done, total: None)
    assert (tmp_path / csv.name).read_bytes() == csv.read_bytes()
    with landmarks_in_background(video, tmp_path):
        assert not detectors()  # they are known


def test_a_file_that_is_no_video_is_left_to_the_one_who_reads_it(tmp_path, before_torch, capfd):
    source = tmp_path / "text.mp4"
    source.write_text("this is no video")
    with landmarks_in_background(source, tmp_path / "landmarks") as wait:
        wait(lambda stage, done, total: None)
    assert not (tmp_path / "landmarks").exists()
    assert capfd.readouterr() == ("", "")


def test_an_error_in_the_block_ends_the_detection(video, tmp_path, before_torch, detectors):
    with pytest.raises(ValueError, match="weights"), landmarks_in_background(video, tmp_path):
        (process,) = detectors()
        raise ValueError("weights")
    process.join(10)
    assert process.exitcode not in (None, 0)
    assert not list(tmp_path.iterdir())


def test_several_processes_detect_what_one_does(tmp_path, monkeypatch):
    monkeypatch.setattr(sample_media, "FAST", EncoderSettings(crf=10, preset="ultrafast", gop=15))
    video = write_face_video(tmp_path / "face.mp4", 30, size=192)
    monkeypatch.setattr(analysis, "find_parts", partial(find_parts, part_frames=15))
    starts = []
    track_in_parts = analysis.track_in_parts

    def spy(parts, run):
        starts.extend(parts.starts)
        return track_in_parts(parts, run)

    monkeypatch.setattr(analysis, "track_in_parts", spy)
    cache_landmarks(video, tmp_path / "parts", lambda stage, done, total: None, workers=2)
    analyze_video(video, landmark_dir=tmp_path / "one")
    (parts,), (one,) = ((tmp_path / name).iterdir() for name in ("parts", "one"))
    assert parts.read_bytes() == one.read_bytes()
    assert len(starts) == 2
