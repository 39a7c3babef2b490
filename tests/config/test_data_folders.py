"""Both places of the training data: of the published code and of the published document."""

from pathlib import Path

import pytest

from config.data_folders import data_folder, default_landmark_dir, default_training_json
from config.training import FrameTrainingParser

CODE, DOCUMENT = Path("asserts/training_data"), Path("asserts")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_the_documents_folder_is_taken_where_the_other_is_not_there():
    assert data_folder("split_video_25fps") == CODE
    put(DOCUMENT / "split_video_25fps/a.mp4")
    assert data_folder("split_video_25fps") == DOCUMENT
    (CODE / "split_video_25fps").mkdir(parents=True)
    put(CODE / "split_video_25fps/.hidden")
    assert data_folder("split_video_25fps") == DOCUMENT  # an empty folder holds no videos
    put(CODE / "split_video_25fps/a.mp4")
    assert data_folder("split_video_25fps") == CODE


def test_the_first_name_that_is_anywhere_decides():
    put(CODE / "audio/a.wav", DOCUMENT / "videos/a.mp4")
    assert data_folder("videos", "audio") == DOCUMENT
    assert data_folder("audio", "videos") == CODE
    assert data_folder("none", "videos") == DOCUMENT


def test_training_finds_the_json_in_either_place():
    assert FrameTrainingParser().parse_args([]).train_data == CODE / "training_json.json"
    put(DOCUMENT / "training_json.json")
    assert default_training_json() == FrameTrainingParser().parse_args([]).train_data == DOCUMENT / "training_json.json"
    put(CODE / "training_json.json")
    assert FrameTrainingParser().parse_args([]).train_data == CODE / "training_json.json"


def test_landmarks_are_found_in_either_place():
    put(DOCUMENT / "split_video_25fps_landmark_openface/a.csv")
    assert default_landmark_dir() == DOCUMENT / "split_video_25fps_landmark_openface"
