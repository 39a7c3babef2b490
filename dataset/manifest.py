"""The training json: crops and the speech features that belong to them.

The published layout is {NAME: {video_clip_num, clip_data_list: [{frame_name_list, frame_path_list,
deep_speech_list}]}} with the numbers of the features inside. frame_name_list holds VIDEO/CLIP/FRAME.jpg; it is written
for other programs and not read here. Features other than DeepSpeech stay in a file of their own (NumPy, float16
[rows, channels]) that the video's entry names in `feature_path`, beside `audio_feature`, `audio_channel` and
`rows_per_frame`; a clip then says at which row its first frame's slot begins, `feature_first_row`.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from utils.errors import UserError, require_file
from utils.files import atomic_path, open_regular_file
from utils.speech.features import KINDS, FeatureKind

_FIRST_LINE = b"{\n"


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

    @property
    def speech(self) -> np.ndarray:
        """Speech features of the whole video, [T, channels].

        A memory map, opened at each access because a large set has more videos than a process may have open files; or,
        if the json itself holds the numbers, those of its clips concatenated.

        Raises:
            UserError: the feature file is missing or broken.
        """
        if self.feature_path is None:
            return self._joined_features
        try:
            return open_feature_file(self.feature_path)
        except (OSError, ValueError) as error:
            cause = getattr(error, "strerror", None) or error  # without the path, which the message begins with
            raise self._feature_error(f"cannot be read ({cause})") from None

    @cached_property
    def first_rows(self) -> list[int]:
        """Row of `speech` at which each clip begins."""
        if self.feature_path is not None:
            return [clip.first_row for clip in self.clips]
        lengths = [0, *(len(clip.features) for clip in self.clips)]
        return [int(row) for row in np.cumsum(lengths[:-1])]

    @cached_property
    def _joined_features(self) -> np.ndarray:
        return np.concatenate([clip.features for clip in self.clips])

    def speech_rows(self, first: int, count: int) -> np.ndarray:
        """Rows `first` to `first + count` of `speech`, float32 [count, channels].

        Raises:
            UserError: the feature file is missing, broken or too short.
        """
        rows = self.speech[first : first + count] if first >= 0 else ()
        if len(rows) != count or rows.shape[1:] != (self.kind.channels,):
            raise self._feature_error("do not fit its clips")
        return np.asarray(rows, np.float32)

    def clip_features(self, clip: Clip) -> np.ndarray:
        """Speech features of a clip's frames, float32 [frames * rows_per_frame, channels].

        Raises:
            UserError: the feature file is missing or too short.
        """
        if clip.features is not None:
            return clip.features
        return self.speech_rows(clip.first_row, len(clip.frame_paths) * self.kind.rows_per_frame)

    def _feature_error(self, problem: str) -> UserError:
        return UserError(
            f"{self.feature_path}: speech features of {self.name} {problem}; "
            "run data_processing.py again for this video"
        )


def open_feature_file(path: Path) -> np.ndarray:
    """Return the speech features of a NumPy file as a memory map, float [T, channels].

    Raises:
        OSError: no regular file that can be read.
        ValueError: a file of another kind, or a damaged one.
    """
    os.close(open_regular_file(path))  # a pipe would be waited for
    try:
        features = np.load(path, mmap_mode="r")
    except OSError:
        raise
    except Exception as error:  # bytes that only look like an array can raise nearly anything
        raise ValueError("it is no NumPy file, or a damaged one") from error
    if not (isinstance(features, np.ndarray) and features.ndim == 2 and features.dtype.kind == "f"):
        raise ValueError("it is no array of numbers with two dimensions")
    return features


def write_manifest(path: Path, videos: list[Video]) -> None:
    """Write the training json; DeepSpeech features in the published layout, others by reference."""
    with atomic_path(path) as partial, partial.open("wb") as file:
        # A video a line, to be read so: the numbers of a whole set are gigabytes as Python objects.
        file.write(_FIRST_LINE)
        for index, video in enumerate(videos):
            entry = orjson.dumps(_entry(video), option=orjson.OPT_SERIALIZE_NUMPY)
            file.write((b",\n" if index else b"") + orjson.dumps(video.name) + b": " + entry)
        file.write(b"\n}\n")


def _entry(video: Video) -> dict:
    """A video as the json has it."""
    clips = []
    for clip in video.clips:
        names = ["/".join(path.split("/")[-3:]) for path in clip.frame_paths]  # VIDEO/CLIP/FRAME.jpg, as published
        entry = {"frame_name_list": names, "frame_path_list": clip.frame_paths}
        if video.feature_path is None:
            entry["deep_speech_list"] = np.ascontiguousarray(clip.features)
        else:
            entry["feature_first_row"] = clip.first_row
        clips.append(entry)
    entry = {"video_clip_num": len(clips), "clip_data_list": clips}
    if video.feature_path is not None:
        entry |= {
            "audio_feature": video.kind.name,
            "audio_channel": video.kind.channels,
            "rows_per_frame": video.kind.rows_per_frame,
            "feature_path": video.feature_path.as_posix(),
        }
    return entry


def read_manifest(path: Path, option: str = "--train_data") -> list[Video]:
    """Read a training json, published or ours, in the order of the file.

    Raises:
        UserError: missing, not such a json, without a clip, or of several kinds of features.
    """
    require_file(path, option, "make it with data_processing.py --generate_training_json")
    try:
        videos = [_read_video(name, entry) for name, entry in _entries(path)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
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


def _entries(path: Path) -> Iterator[tuple[str, dict]]:
    """The videos of a training json: line by line if each is on one, as we write them, else all at once."""
    with path.open("rb") as file:
        by_line = file.readline() == _FIRST_LINE and file.readline().rstrip().endswith((b"}", b"},"))
        if by_line:
            file.seek(len(_FIRST_LINE))
            for line in file:
                if line.strip() != b"}":
                    yield from orjson.loads(b"{" + line.rstrip().removesuffix(b",") + b"}").items()
            return
    yield from orjson.loads(path.read_bytes()).items()


def _read_video(name: str, entry: dict) -> Video:
    clip_entries = _checked(entry["clip_data_list"], list, f"clip_data_list of {name}")
    if "feature_path" in entry:
        kind = FeatureKind(
            _checked(entry["audio_feature"], str, f"audio_feature of {name}"),
            _checked(entry["audio_channel"], int, f"audio_channel of {name}"),
            _checked(entry["rows_per_frame"], int, f"rows_per_frame of {name}"),
        )
        known = KINDS.get(kind.name)
        if known is None or (kind.channels, kind.rows_per_frame) != (known.channels, known.rows_per_frame):
            raise ValueError(f"{name} has features of an unknown kind, {kind}")
        clips = [
            Clip(_frame_paths(clip, name), _checked(clip["feature_first_row"], int, f"feature_first_row of {name}"))
            for clip in clip_entries
        ]
        return Video(name, clips, kind, Path(_checked_path(entry["feature_path"], name)))
    kind = KINDS["deepspeech"]
    clips = []
    for clip in clip_entries:
        features = np.asarray(clip["deep_speech_list"], np.float32)
        if not np.isfinite(features).all():
            raise ValueError(f"deep_speech_list of {name} has values that are no numbers")
        if features.ndim != 2 or len(features) != len(clip["frame_path_list"]) or features.shape[1] != kind.channels:
            raise ValueError(f"deep_speech_list of {name} is {features.shape}, not one row of 29 a frame")
        clips.append(Clip(_frame_paths(clip, name), 0, features))
    return Video(name, clips, kind)


def _frame_paths(clip: dict, name: str) -> list[str]:
    paths = _checked(clip["frame_path_list"], list, f"frame_path_list of {name}")
    if not paths:
        raise ValueError(f"frame_path_list of {name} is empty")
    return [_checked_path(path, name) for path in paths]


def _checked_path(path: Any, name: str) -> str:
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError(f"{str(path)[:40]!r} of {name} is no path")
    return path


def _checked(value: Any, kind: type, what: str) -> Any:
    """Return `value` if it is of that type; numbers are whole and not negative."""
    if type(value) is not kind or (kind is int and not 0 <= value < 2**62):
        raise ValueError(f"{what} is {str(value)[:40]!r}")
    return value
