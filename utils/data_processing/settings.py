"""What the steps of data preparation share: folders, parameters, names of results."""

import argparse
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path

from utils.settings import option, positive_int

TRAINING_RATE = Fraction(25)
"""Frames per second of all training data, as published."""

DATA_FOLDER = Path("./asserts/training_data")
"""Folder of the published code; its document has the same folders right below ./asserts (config.data_folders)."""
VIDEO_FOLDER = "split_video_25fps"
"""Folder of the 25 fps videos; the folders of what is made from them begin with its name."""


def _jpeg_quality(text: str) -> int:
    value = int(text)
    if not 95 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not between 95 and 100: training would learn the artefacts")
    return value


@dataclass(frozen=True)
class TimeSpan:
    """Part of a video from `start` to `end` in seconds; None is the end of the video."""

    start: float = 0.0
    end: float | None = None


WHOLE_VIDEO = TimeSpan()


@dataclass(frozen=True)
class DataSettings:
    """Folders and parameters of all steps."""

    split_video_dir: Path = option(DATA_FOLDER / "split_video", type=Path, help="results of --split_video")
    resampled_video_dir: Path = option(DATA_FOLDER / VIDEO_FOLDER, type=Path, help="results of --resample_video")
    scene_video_dir: Path = option(DATA_FOLDER / "split_scene_25fps", type=Path, help="results of --split_scene")
    openface_landmark_dir: Path = option(
        DATA_FOLDER / f"{VIDEO_FOLDER}_landmark_openface", type=Path, help="landmarks, NAME.csv"
    )
    video_frame_dir: Path = option(DATA_FOLDER / f"{VIDEO_FOLDER}_frame", type=Path, help="frames")
    audio_dir: Path = option(DATA_FOLDER / f"{VIDEO_FOLDER}_audio", type=Path, help="wavs")
    deep_speech_dir: Path = option(
        DATA_FOLDER / f"{VIDEO_FOLDER}_deepspeech", type=Path, help="DeepSpeech features, NAME_deepspeech.txt"
    )
    audio_feature_dir: Path | None = option(
        None,
        type=Path,
        help=f"speech features other than DeepSpeech, NAME_KIND.npy; None: {VIDEO_FOLDER}_mel or ..._whisper",
    )
    crop_face_dir: Path = option(DATA_FOLDER / f"{VIDEO_FOLDER}_crop_face", type=Path, help="face crops")
    audio_feature: str | None = option(
        None,
        choices=("deepspeech", "mel", "whisper"),
        help="kind of the speech features; None: mel, but deepspeech with --extract_deep_speech, and for "
        "--generate_training_json by itself if --deep_speech_dir holds features",
    )
    deep_speech_model: Path = option(
        Path("./asserts/output_graph.pb"), type=Path, help="DeepSpeech's frozen graph, for DeepSpeech features"
    )
    whisper_model: str | None = option(
        None, help="another Whisper tiny model (name or folder), for whisper features; None: the one here"
    )
    clip_length: int = option(9, type=positive_int, help="frames per clip; SyncNet and clip training need 9")
    jpeg_quality: int = option(95, type=_jpeg_quality, help="JPEG quality of frames and crops, 95 to 100")
    crf: int = option(12, type=int, choices=range(52), metavar="0..51", help="H.264 quality of cut videos")

    def absolute(self) -> "DataSettings":
        """The same with absolute paths."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.audio_feature != "deepspeech":
            values["audio_feature_dir"] = self.feature_dir
        return replace(self, **{name: path.absolute() for name, path in values.items() if isinstance(path, Path)})

    @property
    def feature_dir(self) -> Path:
        """Speech features of the chosen kind."""
        if self.audio_feature == "deepspeech":
            return self.deep_speech_dir
        return self.audio_feature_dir or DATA_FOLDER / f"{VIDEO_FOLDER}_{self.audio_feature}"

    @property
    def feature_option(self) -> str:
        """Option that names `feature_dir`."""
        return "--deep_speech_dir" if self.audio_feature == "deepspeech" else "--audio_feature_dir"

    def audio_path(self, name: str) -> Path:
        """Audio of a video: wav, 16 kHz mono."""
        return self.audio_dir / f"{name}.wav"

    def feature_path(self, name: str) -> Path:
        """Speech features of a video: text for DeepSpeech, as published, else NumPy float16 [rows, channels]."""
        suffix = "txt" if self.audio_feature == "deepspeech" else "npy"
        return self.feature_dir / f"{name}_{self.audio_feature}.{suffix}"

    def landmark_path(self, name: str) -> Path:
        """Landmarks of a video in OpenFace's layout."""
        return self.openface_landmark_dir / f"{name}.csv"

    def shots_path(self, name: str) -> Path:
        """Scene cuts of a video, beside its landmarks: {"video": fingerprint, "shots": [first frame of each shot]}."""
        return self.openface_landmark_dir / f"{name}_shots.json"

    def frame_dir(self, name: str) -> Path:
        """Frames of a video."""
        return self.video_frame_dir / name

    def crop_dir(self, name: str) -> Path:
        """Crops of a video, one folder per clip."""
        return self.crop_face_dir / name


def frame_name(index: int) -> str:
    """File name of a frame or its crop."""
    return f"{index:06d}.jpg"


def clip_name(number: int) -> str:
    """Folder name of a clip's crops."""
    return f"{number:06d}"
