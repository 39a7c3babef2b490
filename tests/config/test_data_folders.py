"""Both places of the training data: of the published code and of the published document."""

from pathlib import Path

import pytest

import data_processing
from config.data_folders import data_folder, default_landmark_dir, default_training_json
from config.data_processing import DataProcessingParser, SourceSettings, StepSettings
from config.parser import make_settings
from config.training import FrameTrainingParser
from utils.data_processing.settings import DataSettings
from utils.errors import UserError

CODE, DOCUMENT = Path("asserts/training_data"), Path("asserts")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def parse(*command: str) -> tuple[StepSettings, SourceSettings, DataSettings]:
    options = DataProcessingParser().parse_args(command)
    steps, source, data = (make_settings(kind, options) for kind in (StepSettings, SourceSettings, DataSettings))
    return steps, source, steps.complete(data)


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


@pytest.mark.parametrize("step", ["all", "extract_audio", "crop_face", "generate_training_json"])
def test_data_processing_works_where_the_videos_are(step):
    _, source, data = parse(f"--{step}", "--extract_audio")
    assert data.audio_dir == CODE / "split_video_25fps_audio" and source.json_path == CODE / "training_json.json"
    put(DOCUMENT / "split_video_25fps/a.mp4")
    _, source, data = parse(f"--{step}", "--extract_audio")
    for name in ("audio_dir", "openface_landmark_dir", "deep_speech_dir", "audio_feature_dir", "crop_face_dir"):
        assert getattr(data, name).parent == DOCUMENT, name
    assert source.json_path == DOCUMENT / "training_json.json"


def test_the_steps_of_the_published_document_start_from_its_folder():
    put(DOCUMENT / "split_video_25fps/a.mp4")
    steps, source, _ = parse("--extract_audio")
    assert source.video_dir(steps) == DOCUMENT / "split_video_25fps"


def test_without_videos_both_places_are_named(monkeypatch):
    monkeypatch.setattr("sys.argv", ["data_processing.py", "--extract_audio"])
    places = "asserts/training_data/split_video_25fps nor asserts/split_video_25fps"
    with pytest.raises(UserError, match=f"^--source_video_dir: no videos in {places}; name the folder"):
        data_processing.main()
