"""The steps of data preparation, for one video at a time. Each makes what is missing."""

import errno
import itertools
import json
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from utils.data_processing.cached_results import Finished, finish, read_record
from utils.data_processing.clips import crop_clips
from utils.data_processing.settings import TRAINING_RATE, DataSettings, frame_name
from utils.data_processing.video_cutting import (
    WHOLE,
    Span,
    check_even,
    link_or_copy,
    load_sound,
    open_training_video,
    resample_video,
    write_span,
)
from utils.errors import UserError
from utils.face.openface_csv import write_openface_csv
from utils.face.tracker import FaceTracker
from utils.files import file_fingerprint
from utils.media.audio import load_waveform, write_wav
from utils.media.images import write_jpeg
from utils.media.shots import ShotDetector
from utils.media.video_reader import VideoReader
from utils.media.yuv import rgb_patch
from utils.speech.extractor import FeatureExtractor

_DISK_PROBLEMS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class UselessToGoOnError(UserError):
    """A mistake that spoils every video alike, such as a missing model."""


@dataclass(frozen=True)
class Source:
    """A video to prepare: its name in all folders, the file if there is one, and which part of it is meant."""

    name: str
    video: Path | None
    span: Span = WHOLE


@dataclass(frozen=True)
class Skip:
    """A video that was not prepared, and why."""

    name: str
    step: str
    cause: str
    traceback: str = ""


@dataclass
class StepCount:
    """What a step did: videos made and kept from earlier runs, seconds of work, frames of what was made."""

    made: int = 0
    kept: int = 0
    seconds: float = 0.0
    frames: int = 0


@dataclass
class Report:
    """What became of one or more videos. `causes` counts unusable clips by cause."""

    steps: dict[str, StepCount] = field(default_factory=lambda: defaultdict(StepCount))
    skips: list[Skip] = field(default_factory=list)
    causes: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Report") -> None:
        """Add what became of other videos."""
        for step, count in other.steps.items():
            total = self.steps[step]
            total.made += count.made
            total.kept += count.kept
            total.seconds += count.seconds
            total.frames += count.frames
        self.skips += other.skips
        self.causes += other.causes


def prepare(source: Source, steps: Sequence[str], settings: DataSettings) -> Report:
    """Take a video through `steps`, in order. A step that cannot be done ends the way of this video.

    Raises:
        UserError: a mistake that spoils every video alike: a missing model, a full disk.
    """
    cv2.setNumThreads(1)  # there is a process for every core
    report = Report()
    sources = [source]
    for step in steps:
        following: list[Source] = []
        for current in sources:
            begin = time.perf_counter()
            try:
                for result, finished in _STEPS[step](current, settings):
                    count = report.steps[step]
                    count.made += finished.is_new
                    count.kept += not finished.is_new
                    count.frames += finished.result.get("frames", 0) * finished.is_new
                    _check_usable(finished.result, settings)
                    report.causes.update(finished.result.get("causes", {}))
                    following.append(result)
            except Exception as error:
                report.skips.append(_skip(current, step, error))
            report.steps[step].seconds += time.perf_counter() - begin
        sources = following
    return report


def _skip(source: Source, step: str, error: Exception) -> Skip:
    """Return why a video is skipped, or raise where going on is useless."""
    if isinstance(error, UselessToGoOnError):
        raise error
    reason: BaseException | None = error
    while reason is not None:
        if getattr(reason, "errno", None) in _DISK_PROBLEMS:
            raise UselessToGoOnError(
                f"{source.name}: {error}; mend this and run again: what is complete is kept"
            ) from error
        reason = reason.__cause__
    if isinstance(error, UserError):
        return Skip(source.name, step, str(error))
    return Skip(source.name, step, f"{type(error).__name__}: {error} (a bug, please report it)", traceback.format_exc())


def _check_usable(result: dict, settings: DataSettings) -> None:
    if result.get("faces") == 0:
        raise UserError("no face was found in any frame")
    if result.get("clips") == []:
        if result["frames"] < settings.clip_length:
            raise UserError(f"too short: {result['frames']} frames, a clip has {settings.clip_length}")
        causes = "; ".join(f"{count} times {cause}" for cause, count in result["causes"].items())
        raise UserError(f"no usable clip: {causes}")


Step = Callable[[Source, DataSettings], list[tuple[Source, Finished]]]


def _split_video(source: Source, settings: DataSettings) -> list[tuple[Source, Finished]]:
    video = _video(source)
    target = settings.split_video_dir / f"{source.name}.mp4"
    span = source.span

    def make(path: Path) -> dict:
        reader = VideoReader(video, "--source_video_dir")
        return {"frames": write_span(reader, span, path, reader.info.rate, load_sound(reader), settings.crf)}

    made_from = {"video": file_fingerprint(video), "start": span.start, "end": span.end, "crf": settings.crf}
    return [(Source(source.name, target), finish(target, made_from, make))]


def _resample_video(source: Source, settings: DataSettings) -> list[tuple[Source, Finished]]:
    video = _video(source)
    target = settings.resampled_video_dir / f"{source.name}.mp4"
    if target.exists() and target.samefile(video) and video.parent.resolve() == target.parent.resolve():
        open_training_video(video)  # it is where it belongs, if only its rate is right
        return [(source, Finished({}, is_new=False))]
    made_from = {"video": file_fingerprint(video), "crf": settings.crf}
    return [
        (Source(source.name, target), finish(target, made_from, lambda path: resample_video(video, path, settings.crf)))
    ]


def _split_scene(source: Source, settings: DataSettings) -> list[tuple[Source, Finished]]:
    video = _video(source)
    fingerprint = file_fingerprint(video)
    cuts_path = settings.scene_video_dir / f"{source.name}_scenes.json"

    def find_cuts(path: Path) -> dict:
        reader = open_training_video(video)
        detector = ShotDetector(float(TRAINING_RATE))
        for frame in reader.frames():
            detector.add(frame.luma)
        check_even(reader)
        bounds = [*map(int, detector.starts()), len(reader.times)]
        path.write_text(json.dumps({"scene_bounds": bounds}), encoding="utf-8")
        return {}

    finish(cuts_path, {"video": fingerprint}, find_cuts)
    bounds = json.loads(cuts_path.read_bytes())["scene_bounds"]
    results: list[tuple[Source, Finished]] = []
    for index, (first, last) in enumerate(itertools.pairwise(bounds)):
        if last - first < settings.clip_length:
            continue
        span = Span(float(first / TRAINING_RATE), float(last / TRAINING_RATE))

        def make(path: Path, span: Span = span) -> dict:
            if len(bounds) == 2:
                link_or_copy(video, path)
                return {"frames": bounds[1]}
            reader = VideoReader(video, "--source_video_dir")
            return {"frames": write_span(reader, span, path, TRAINING_RATE, load_sound(reader), settings.crf)}

        name = source.name if len(bounds) == 2 else f"{source.name}_scene{index}"
        target = settings.scene_video_dir / f"{name}.mp4"
        made_from = {"video": fingerprint, "start": span.start, "end": span.end, "crf": settings.crf}
        results.append((Source(name, target), finish(target, made_from, make)))
    if not results:
        raise UserError(f"no scene is as long as a clip of {settings.clip_length} frames")
    return results


def _extract_frames(source: Source, settings: DataSettings) -> list[tuple[Source, Finished]]:
    video = _video(source)

    def make(folder: Path) -> dict:
        reader = open_training_video(video)
        folder.mkdir()
        for frame in reader.frames():
            picture = rgb_patch(frame.yuv, 0, frame.height, 0, frame.width, reader.info.colour)
            write_jpeg(folder / frame_name(frame.index), picture, settings.jpeg_quality)
        check_even(reader)
        return {"frames": len(reader.times)}

    made_from = {"video": file_fingerprint(video), "jpeg_quality": settings.jpeg_quality}
    return [(source, finish(settings.frame_dir(source.name), made_from, make))]


def _extract_audio(source: Source, settings: DataSettings) -> list[tuple[Source, Finished]]:
    video = _video(source)

    def make(path: Path) -> None:
        write_wav(path, load_waveform(video, "--source_video_dir"))

    return [(source, finish(settings.audio_path(source.name), {"video": file_fingerprint(video)}, make))]


def _extract_features(source: Source, settings: DataSettings) -> list[tuple[Source, Finished]]:
    audio = settings.audio_path(source.name)
    if not audio.is_file():
        raise UserError(f"--audio_dir: {audio} is not there; run --extract_audio first")
    model = settings.whisper_model if settings.audio_feature == "whisper" else ""
    if settings.audio_feature == "deepspeech":
        model = file_fingerprint(settings.deep_speech_model)

    def make(path: Path) -> None:
        try:
            extractor = _extractor(settings.audio_feature, settings.deep_speech_model, settings.whisper_model)
        except UserError as error:
            raise UselessToGoOnError(str(error)) from error
        features, _ = extractor.extract(audio, "--audio_dir")
        if path.suffix == ".txt":
            np.savetxt(path, features.values, fmt="%.9g")  # nine digits give a float32 back exactly
        else:
            np.save(path, features.values.astype(np.float16))

    made_from = {"audio": file_fingerprint(audio), "model": model}
    return [(source, finish(settings.feature_path(source.name), made_from, make))]


@lru_cache(maxsize=1)
def _extractor(kind: str, deep_speech_model: Path, whisper_model: str) -> FeatureExtractor:
    """The model of a kind of features, loaded once in a process."""
    return FeatureExtractor(kind, deep_speech_model, whisper_model, deepspeech_option="--deep_speech_model")


def _detect_landmarks(source: Source, settings: DataSettings) -> list[tuple[Source, Finished]]:
    video = _video(source)

    def make(path: Path) -> dict:
        reader = open_training_video(video)
        rate = float(TRAINING_RATE)
        try:
            tracker = FaceTracker(rate)
        except UserError as error:
            raise UselessToGoOnError(str(error)) from error
        shots = ShotDetector(rate)
        for frame in reader.frames():
            shots.add(frame.luma)
            tracker.add(frame.luma)
        check_even(reader)
        count, starts = len(reader.times), shots.starts()
        table = tracker.finish(starts)
        write_openface_csv(path, table, rate)
        return {"frames": count, "faces": int(table.success.sum()), "shots": [int(start) for start in starts]}

    return [(source, finish(settings.landmark_path(source.name), {"video": file_fingerprint(video)}, make))]


def _crop_faces(source: Source, settings: DataSettings) -> list[tuple[Source, Finished]]:
    landmarks = settings.landmark_path(source.name)
    if not landmarks.is_file():
        raise UserError(
            f"--openface_landmark_dir: {landmarks} is not there; run --detect_landmark, or OpenFace on the video"
        )
    frames = settings.frame_dir(source.name)
    if source.video is not None:
        fingerprint = file_fingerprint(source.video)
        record = read_record(frames)
        outdated = record is not None and record["made_from"].get("video") != fingerprint
        pictures = frames if frames.is_dir() and not outdated else source.video
    elif (frames / frame_name(0)).is_file():
        fingerprint = file_fingerprint(frames / frame_name(0))
        pictures = frames
    else:
        raise UserError(f"neither a video in --source_video_dir nor frames in --video_frame_dir for {landmarks}")

    def make(folder: Path) -> dict:
        detected = read_record(landmarks) or {"result": {"shots": [0]}}
        shots = np.array(detected["result"]["shots"])
        return crop_clips(folder, source.name, landmarks, shots, pictures, settings.clip_length, settings.jpeg_quality)

    made_from = {
        "pictures": fingerprint,
        "landmarks": file_fingerprint(landmarks),
        "clip_length": settings.clip_length,
        "jpeg_quality": settings.jpeg_quality,
    }
    return [(source, finish(settings.crop_dir(source.name), made_from, make))]


def _video(source: Source) -> Path:
    if source.video is None:
        raise UserError("no video of that name in --source_video_dir")
    return source.video


_STEPS: dict[str, Step] = {
    "split_video": _split_video,
    "resample_video": _resample_video,
    "split_scene": _split_scene,
    "extract_video_frame": _extract_frames,
    "extract_audio": _extract_audio,
    "extract_audio_feature": _extract_features,
    "detect_landmark": _detect_landmarks,
    "crop_face": _crop_faces,
}
