"""The training json: which crops and which speech belong together.

The published layout is {NAME: {video_clip_num, clip_data_list: [{frame_name_list, frame_path_list,
deep_speech_list}]}} with the numbers of the features inside. Features other than DeepSpeech stay in a file of their
own (NumPy, float16 [rows, channels]) that the video's entry names in `feature_path`, beside `audio_feature`,
`audio_channel` and `rows_per_frame`; a clip then says at which row its first frame's slot begins,
`feature_first_row`.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from utils.errors import UserError, require_file
from utils.files import atomic_path
from utils.speech_features import KINDS, FeatureKind


@dataclass(frozen=True)
class Clip:
    """Successive frames of a video. `features` is float32 [T, channels] where the json itself holds them, else None."""

    frame_paths: list[str]
    first_row: int = 0
    features: np.ndarray | None = None


@dataclass(frozen=True)
class Video:
    """Clips of one video, and where their speech features are."""

    name: str
    clips: list[Clip]
    kind: FeatureKind
    feature_path: Path | None = None

    @cached_property
    def _rows(self) -> np.ndarray:
        return np.load(self.feature_path, mmap_mode="r")

    def clip_features(self, clip: Clip) -> np.ndarray:
        """Speech features of a clip's frames, float32 [frames * rows_per_frame, channels].

        Raises:
            UserError: the feature file is missing or too short.
        """
        if clip.features is not None:
            return clip.features
        count = len(clip.frame_paths) * self.kind.rows_per_frame
        try:
            rows = self._rows[clip.first_row : clip.first_row + count]
        except (OSError, ValueError):
            raise UserError(
                f"{self.feature_path}: speech features of {self.name} cannot be read; "
                "run data_processing.py again for this video"
            ) from None
        if len(rows) != count or rows.shape[1] != self.kind.channels:
            raise UserError(
                f"{self.feature_path}: speech features of {self.name} do not fit its clips; "
                "run data_processing.py again for this video"
            )
        return np.asarray(rows, np.float32)


def write_manifest(path: Path, videos: list[Video]) -> None:
    """Write the training json; DeepSpeech features in the published layout, others by reference."""
    entries = {}
    for video in videos:
        clips = []
        for clip in video.clips:
            entry = {"frame_name_list": [Path(p).name for p in clip.frame_paths], "frame_path_list": clip.frame_paths}
            if video.feature_path is None:
                entry["deep_speech_list"] = clip.features.tolist()
            else:
                entry["feature_first_row"] = clip.first_row
            clips.append(entry)
        entries[video.name] = {"video_clip_num": len(clips), "clip_data_list": clips}
        if video.feature_path is not None:
            entries[video.name] |= {
                "audio_feature": video.kind.name,
                "audio_channel": video.kind.channels,
                "rows_per_frame": video.kind.rows_per_frame,
                "feature_path": video.feature_path.as_posix(),
            }
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(entries), encoding="utf-8")


def read_manifest(path: Path, option: str = "--train_data") -> list[Video]:
    """Read a training json, published or ours, in the order of the file.

    Raises:
        UserError: missing, not such a json, without a clip, or of several kinds of features.
    """
    require_file(path, option, "make it with data_processing.py --generate_training_json")
    try:
        entries = json.loads(path.read_bytes())
        videos = [_read_video(name, entry) for name, entry in entries.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{option}: {path} is not a training json ({type(error).__name__}: {error}); "
            "make it with data_processing.py --generate_training_json"
        ) from None
    if not any(video.clips for video in videos):
        raise UserError(f"{option}: {path} holds no clips; see the skips that data_processing.py reported")
    kinds = {video.kind.name for video in videos}
    if len(kinds) > 1:
        raise UserError(f"{option}: {path} mixes speech features ({', '.join(sorted(kinds))}); train on one kind")
    return videos


def _read_video(name: str, entry: dict) -> Video:
    if "feature_path" in entry:
        kind = FeatureKind(entry["audio_feature"], int(entry["audio_channel"]), int(entry["rows_per_frame"]))
        clips = [Clip(clip["frame_path_list"], int(clip["feature_first_row"])) for clip in entry["clip_data_list"]]
        return Video(name, clips, kind, Path(entry["feature_path"]))
    kind = KINDS["deepspeech"]
    clips = []
    for clip in entry["clip_data_list"]:
        features = np.asarray(clip["deep_speech_list"], np.float32)
        if features.ndim != 2 or len(features) != len(clip["frame_path_list"]) or features.shape[1] != kind.channels:
            raise ValueError(f"deep_speech_list of {name} is {features.shape}, not one row of 29 a frame")
        clips.append(Clip(clip["frame_path_list"], 0, features))
    return Video(name, clips, kind)
