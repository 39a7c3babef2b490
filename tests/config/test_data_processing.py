import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from config.data_processing import NOT_IN_ALL, STEPS, DataProcessingParser, SourceSettings, StepSettings
from config.parser import make_settings
from utils.data_processing.settings import DataSettings


def parse(command: str) -> tuple[StepSettings, SourceSettings, DataSettings]:
    options = DataProcessingParser().parse_args(shlex.split(command))
    return tuple(make_settings(kind, options) for kind in (StepSettings, SourceSettings, DataSettings))


def test_published_defaults():
    steps, source, data = parse("--crop_face")
    assert steps.names == ["crop_face"]
    assert source.video_dir(steps) == Path("./asserts/training_data/split_video_25fps")
    assert data.openface_landmark_dir == Path("./asserts/training_data/split_video_25fps_landmark_openface")
    assert data.video_frame_dir == Path("./asserts/training_data/split_video_25fps_frame")
    assert data.audio_dir == Path("./asserts/training_data/split_video_25fps_audio")
    assert data.deep_speech_dir == Path("./asserts/training_data/split_video_25fps_deepspeech")
    assert data.crop_face_dir == Path("./asserts/training_data/split_video_25fps_crop_face")
    assert source.json_path == Path("./asserts/training_data/training_json.json")
    assert data.deep_speech_model == Path("./asserts/output_graph.pb")
    assert data.clip_length == 9


def test_steps_run_in_order_whatever_the_order_of_the_flags():
    assert parse("--crop_face --extract_audio")[0].names == ["extract_audio", "crop_face"]
    assert parse("--all")[0].names == [step for step in STEPS if step not in NOT_IN_ALL]
    assert parse("--all --split_scene")[0].names[:2] == ["resample_video", "split_scene"]


@pytest.mark.parametrize(
    ("command", "folder"),
    [
        ("--split_video --resample_video", "raw_video"),
        ("--all", "split_video_25fps"),
        ("--resample_video", "split_video"),
        ("--all --split_video", "raw_video"),
        ("--extract_audio", "split_video_25fps"),
    ],
)
def test_videos_of_the_first_step(command, folder):
    steps, source, _ = parse(command)
    assert source.video_dir(steps) == Path("./asserts/training_data") / folder


@pytest.mark.parametrize(
    ("command", "feature"),
    [
        ("--all", "mel"),
        ("--all --audio_feature whisper", "whisper"),
        ("--all --audio_feature deepspeech", "deepspeech"),
        ("--extract_deep_speech", "deepspeech"),
        ("--all --extract_deep_speech", "deepspeech"),
        ("--extract_deep_speech --audio_feature mel", "mel"),
        ("--extract_audio_feature", "mel"),
    ],
)
def test_kind_of_features(command, feature):
    steps, _, data = parse(command)
    assert steps.complete(data).audio_feature == feature
    assert "extract_audio_feature" in steps.names


def test_the_json_alone_takes_deepspeech_features_where_there_are_some(tmp_path):
    steps, _, data = parse(f"--generate_training_json --deep_speech_dir {tmp_path}")
    assert steps.complete(data).audio_feature == "mel"
    (tmp_path / "a_deepspeech.txt").touch()
    assert steps.complete(data).audio_feature == "deepspeech"


def test_folders_of_features():
    _, _, data = parse("--all")
    assert replace(data, audio_feature="mel").feature_dir == Path("./asserts/training_data/split_video_25fps_mel")
    assert replace(data, audio_feature="deepspeech").feature_dir == data.deep_speech_dir
    assert replace(data, audio_feature="whisper").absolute().feature_dir.is_absolute()
    named = replace(data, audio_feature="mel", audio_feature_dir=Path("mine"))
    assert (named.feature_dir, named.feature_option) == (Path("mine"), "--audio_feature_dir")
