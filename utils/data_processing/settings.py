"""What the steps of data preparation share: folders, parameters, names of results."""

from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path

TRAINING_RATE = Fraction(25)
"""Frames a second of all training data, as published."""

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv", ".ts", ".3gp")


@dataclass(frozen=True)
class DataSettings:
    """Folders and parameters; the names are those of the options of data_processing.py."""

    split_video_dir: Path
    resampled_video_dir: Path
    scene_video_dir: Path
    openface_landmark_dir: Path
    video_frame_dir: Path
    audio_dir: Path
    feature_dir: Path
    crop_face_dir: Path
    audio_feature: str
    deep_speech_model: Path
    whisper_model: str
    clip_length: int
    jpeg_quality: int
    crf: int

    def absolute(self) -> "DataSettings":
        """The same with absolute paths."""
        paths = {field.name: getattr(self, field.name) for field in fields(self) if field.type is Path}
        return replace(self, **{name: path.absolute() for name, path in paths.items()})

    def audio_path(self, name: str) -> Path:
        """Sound of a video: wav, 16 kHz mono."""
        return self.audio_dir / f"{name}.wav"

    def feature_path(self, name: str) -> Path:
        """Speech features of a video: text for DeepSpeech, as published, else NumPy float16 [rows, channels]."""
        suffix = "txt" if self.audio_feature == "deepspeech" else "npy"
        return self.feature_dir / f"{name}_{self.audio_feature}.{suffix}"

    def landmark_path(self, name: str) -> Path:
        """Landmarks of a video in the layout of OpenFace."""
        return self.openface_landmark_dir / f"{name}.csv"

    def frame_dir(self, name: str) -> Path:
        """Frames of a video."""
        return self.video_frame_dir / name

    def crop_dir(self, name: str) -> Path:
        """Crops of a video, a folder a clip."""
        return self.crop_face_dir / name


def frame_name(index: int) -> str:
    """File name of a frame or its crop."""
    return f"{index:06d}.jpg"


def clip_name(number: int) -> str:
    """Folder name of a clip's crops."""
    return f"{number:06d}"


def list_videos(folder: Path) -> list[Path]:
    """Video files of a folder by name; hidden ones are left out."""
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")
    )
