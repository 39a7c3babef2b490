"""The training json from prepared folders: crops and speech features that belong together."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dataset.manifest import Clip, Video, open_feature_file
from utils.data_processing.cached_results import read_record
from utils.data_processing.settings import DataSettings, clip_name, frame_name
from utils.errors import UserError
from utils.speech.features import KINDS


@dataclass
class Collection:
    """Videos with at least one usable clip; causes of the skipped ones by name; counts of clips left out by cause."""

    videos: list[Video] = field(default_factory=list)
    skips: dict[str, str] = field(default_factory=dict)
    causes: Counter[str] = field(default_factory=Counter)

    @property
    def clip_count(self) -> int:
        """Clips of all videos."""
        return sum(len(video.clips) for video in self.videos)


def collect_videos(settings: DataSettings) -> Collection:
    """Find the crops of all videos, in the order of their names, and the speech features of each clip.

    Clip i has the frames from i * clip_length on, and so the feature rows from i * clip_length * rows_per_frame on; a
    clip that is longer than the audio is left out.
    """
    collection = Collection()
    for folder in sorted(settings.crop_face_dir.iterdir()):
        if folder.is_dir() and not folder.name.startswith("."):
            try:
                collection.videos.append(_collect_video(folder, settings, collection.causes))
            except UserError as error:
                collection.skips[folder.name] = str(error)
    return collection


def _collect_video(folder: Path, settings: DataSettings, causes: Counter[str]) -> Video:
    name, kind = folder.name, KINDS[settings.audio_feature]
    feature_path = settings.feature_path(name)
    published = settings.audio_feature == "deepspeech"
    features = _read_features(feature_path)
    if features.ndim != 2 or features.shape[1] != kind.channels:
        raise UserError(f"{feature_path} is not {kind.name} features (shape {features.shape}); extract them again")
    numbers = _clip_numbers(folder, settings.clip_length)
    if not numbers:
        raise UserError(f"no usable clip in {folder}; run --crop_face, and see what it skipped")
    rows = settings.clip_length * kind.rows_per_frame
    clips = []
    for number in numbers:
        first = number * rows
        if first + rows > len(features):
            causes["the audio ends before the clip does"] += 1
            continue
        prefix = f"{(folder / clip_name(number)).as_posix()}/"
        start = number * settings.clip_length
        paths = [prefix + frame_name(index) for index in range(start, start + settings.clip_length)]
        # Six decimals are finer than float32 at the size of these numbers, and half as long in the json.
        own_features = np.round(features[first : first + rows], 6) if published else None
        clips.append(Clip(paths, 0 if published else first, own_features))
    if not clips:
        raise UserError(
            f"the audio ends before the first usable clip does ({len(features)} rows in {feature_path}); "
            "use a video whose audio is longer"
        )
    return Video(name, clips, kind, None if published else feature_path)


def _read_features(path: Path) -> np.ndarray:
    """float [T, channels] of a feature file."""
    try:
        if path.suffix == ".txt":
            return np.loadtxt(path, ndmin=2)
        return open_feature_file(path)
    except FileNotFoundError:
        raise UserError(f"{path} is not there; run --extract_audio_feature or --extract_deep_speech") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it and extract the features again") from None


def _clip_numbers(folder: Path, clip_length: int) -> list[int]:
    """Numbers of the clips of which all frames are there."""
    present = {int(entry.name) for entry in os.scandir(folder) if entry.name.isdecimal()}
    record = read_record(folder)
    if record is not None and record.made_from.get("clip_length") == clip_length:
        return sorted(present.intersection(record.result.clips or ()))
    expected = {
        number: {frame_name(index) for index in range(number * clip_length, (number + 1) * clip_length)}
        for number in present
    }
    return sorted(
        number
        for number in present
        if expected[number] <= set(os.listdir(folder / clip_name(number)))  # noqa: PTH208
    )
