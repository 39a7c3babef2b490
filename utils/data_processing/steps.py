"""The steps of data preparation, for one video at a time. Each makes what is missing."""

import itertools
import json
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from utils.data_processing.cached_results import CachedResult, StepResult, make_if_stale, read_record
from utils.data_processing.clips import ClipSettings, crop_clips
from utils.data_processing.jobs import AbortRunError, Jobs, raise_disk_problem
from utils.data_processing.landmark_detection import detect_landmarks
from utils.data_processing.report import Report, Skip
from utils.data_processing.settings import TRAINING_RATE, WHOLE_VIDEO, DataSettings, TimeSpan, frame_name
from utils.data_processing.video_cutting import (
    check_even,
    cut_video,
    link_or_copy,
    open_training_video,
    resample_video,
)
from utils.errors import UserError, environment_problem, require_file
from utils.face.analysis import find_shots
from utils.face.tracker import DetectorMissingError
from utils.files import atomic_path, file_fingerprint
from utils.media.audio import load_waveform, write_wav
from utils.media.images import write_jpeg
from utils.media.yuv import rgb_patch
from utils.speech.extractor import FeatureExtractor


@dataclass(frozen=True)
class Source:
    """A video to prepare: its name in all folders, the file if there is one, and the part of it to use."""

    name: str
    video: Path | None
    span: TimeSpan = WHOLE_VIDEO


StepOutcome = list[tuple["Source", CachedResult]]
"""The videos for the next step, each with the result of this step."""


def prepare(source: Source, steps: Sequence[str], settings: DataSettings, jobs: Jobs) -> Report:
    """Take a video through `steps`, in order. If a step fails, the later ones are left out for this video.

    The work is done by `jobs`; this function waits for them.

    Raises:
        AbortRunError: an error that affects every video.
    """
    report = Report()
    sources = [source]
    for step in steps:
        following: list[Source] = []
        jobs.step = step
        for current in sources:
            begin = jobs.seconds
            try:
                for result, finished in _STEPS[step](current, settings, jobs):
                    count = report.steps[step]
                    count.made += finished.is_new
                    count.kept += not finished.is_new
                    count.frames += finished.result.frames * finished.is_new
                    _check_usable(finished.result, settings)
                    report.causes.update(finished.result.causes)
                    following.append(result)
            except Exception as error:
                report.skips.append(_skip(current, step, error))
            report.steps[step].seconds += jobs.seconds - begin
        sources = following
    return report


def _skip(source: Source, step: str, error: Exception) -> Skip:
    """Return why a video is skipped.

    Raises:
        AbortRunError: the error affects every video.
    """
    if isinstance(error, (AbortRunError, ModuleNotFoundError)):  # a Dask worker may lack the project
        raise error
    raise_disk_problem(error, source.name)
    problem = str(error) if isinstance(error, UserError) else environment_problem(error)
    if problem is not None:
        return Skip(source.name, step, problem)
    return Skip(source.name, step, f"{type(error).__name__}: {error} (a bug, please report it)", traceback.format_exc())


def _check_usable(result: StepResult, settings: DataSettings) -> None:
    if result.faces == 0:
        raise UserError(
            "no face was found in any frame; leave the video out, or use one with a face seen from the front"
        )
    if result.clips == []:
        if result.frames < settings.clip_length:
            raise UserError(f"too short: {result.frames} frames, a clip has {settings.clip_length}; use a longer video")
        causes = "; ".join(f"{count} times {cause}" for cause, count in result.causes.items())
        raise UserError(f"no usable clip: {causes}")


def _split_video(source: Source, settings: DataSettings, jobs: Jobs) -> StepOutcome:
    video = _video(source)
    target = settings.split_video_dir / f"{source.name}.mp4"
    span = source.span

    def make(path: Path) -> StepResult:
        return StepResult(cut_video(video, span, path, None, settings.crf, jobs.run))

    made_from = {"video": file_fingerprint(video), "start": span.start, "end": span.end, "crf": settings.crf}
    return [(Source(source.name, target), make_if_stale(target, made_from, make))]


def _resample_video(source: Source, settings: DataSettings, jobs: Jobs) -> StepOutcome:
    video = _video(source)
    target = settings.resampled_video_dir / f"{source.name}.mp4"
    if target.exists() and target.samefile(video) and video.parent.resolve() == target.parent.resolve():
        open_training_video(video)  # in its place already, if it has the right rate
        return [(source, CachedResult(StepResult(), is_new=False))]
    made_from = {"video": file_fingerprint(video), "crf": settings.crf}
    made = make_if_stale(target, made_from, lambda path: resample_video(video, path, settings.crf, jobs.run))
    return [(Source(source.name, target), made)]


def _split_scene(source: Source, settings: DataSettings, jobs: Jobs) -> StepOutcome:
    video = _video(source)
    fingerprint = file_fingerprint(video)
    cuts_path = settings.scene_video_dir / f"{source.name}_scenes.json"

    def find_cuts(path: Path) -> None:
        path.write_text(json.dumps({"scene_bounds": jobs.call(_scene_bounds, video)}), encoding="utf-8")

    make_if_stale(cuts_path, {"video": fingerprint}, find_cuts)
    bounds = json.loads(cuts_path.read_bytes())["scene_bounds"]
    results: StepOutcome = []
    for index, (first, last) in enumerate(itertools.pairwise(bounds)):
        if last - first < settings.clip_length:
            continue
        span = TimeSpan(float(first / TRAINING_RATE), float(last / TRAINING_RATE))

        def make(path: Path, span: TimeSpan = span) -> StepResult:
            if len(bounds) == 2:
                link_or_copy(video, path)
                return StepResult(bounds[1])
            return StepResult(cut_video(video, span, path, TRAINING_RATE, settings.crf, jobs.run))

        name = source.name if len(bounds) == 2 else f"{source.name}_scene{index}"
        target = settings.scene_video_dir / f"{name}.mp4"
        made_from = {"video": fingerprint, "start": span.start, "end": span.end, "crf": settings.crf}
        results.append((Source(name, target), make_if_stale(target, made_from, make)))
    if not results:
        raise UserError(f"no scene is as long as a clip of {settings.clip_length} frames; use longer scenes")
    return results


def _scene_bounds(video: Path) -> list[int]:
    reader = open_training_video(video)
    shots, count = find_shots(reader)
    check_even(reader)
    return [*shots.tolist(), count]


def _extract_frames(source: Source, settings: DataSettings, jobs: Jobs) -> StepOutcome:
    video = _video(source)
    made_from = {"video": file_fingerprint(video), "jpeg_quality": settings.jpeg_quality}

    def make(folder: Path) -> StepResult:
        return jobs.call(_write_frames, video, folder, settings.jpeg_quality)

    return [(source, make_if_stale(settings.frame_dir(source.name), made_from, make))]


def _write_frames(video: Path, folder: Path, jpeg_quality: int) -> StepResult:
    reader = open_training_video(video)
    folder.mkdir()
    for frame in reader.frames():
        image = rgb_patch(frame.yuv, 0, frame.height, 0, frame.width, reader.info.colour)
        write_jpeg(folder / frame_name(frame.index), image, jpeg_quality)
    check_even(reader)
    return StepResult(len(reader.times))


def _extract_audio(source: Source, settings: DataSettings, jobs: Jobs) -> StepOutcome:
    video = _video(source)
    made_from = {"video": file_fingerprint(video)}
    target = settings.audio_path(source.name)
    return [(source, make_if_stale(target, made_from, lambda path: jobs.call(_write_audio, video, path)))]


def _write_audio(video: Path, path: Path) -> None:
    write_wav(path, load_waveform(video, "--source_video_dir"))


def _extract_features(source: Source, settings: DataSettings, jobs: Jobs) -> StepOutcome:
    audio = settings.audio_path(source.name)
    if not audio.is_file():
        raise UserError(f"--audio_dir: {audio} does not exist; run --extract_audio first")
    model = settings.whisper_model or "" if settings.audio_feature == "whisper" else ""
    if settings.audio_feature == "deepspeech":
        model = file_fingerprint(settings.deep_speech_model)

    def make(path: Path) -> None:
        jobs.call(_write_features, audio, path, settings)

    made_from = {"audio": file_fingerprint(audio), "model": model}
    return [(source, make_if_stale(settings.feature_path(source.name), made_from, make))]


def _write_features(audio: Path, path: Path, settings: DataSettings) -> None:
    try:
        extractor = _extractor(settings.audio_feature, settings.deep_speech_model, settings.whisper_model)
    except UserError as error:
        raise AbortRunError(str(error)) from error
    features, _ = extractor.extract(audio, "--audio_dir")
    if path.suffix == ".txt":
        np.savetxt(path, features.values, fmt="%.9g")  # nine digits give a float32 back exactly
    else:
        np.save(path, features.values.astype(np.float16))


@lru_cache(maxsize=1)
def _extractor(kind: str, deep_speech_model: Path, whisper_model: str | None) -> FeatureExtractor:
    """The model of a kind of features, loaded once in a process."""
    return FeatureExtractor(kind, deep_speech_model, whisper_model, deepspeech_option="--deep_speech_model")


def _detect_landmarks(source: Source, settings: DataSettings, jobs: Jobs) -> StepOutcome:
    video = _video(source)

    def make(path: Path) -> StepResult:
        try:
            shots, frames, faces = detect_landmarks(video, path, jobs.run)
        except DetectorMissingError as error:
            raise AbortRunError(str(error)) from error
        _write_shots(settings.shots_path(source.name), video, shots)
        return StepResult(frames, faces=faces)

    target = settings.landmark_path(source.name)
    return [(source, make_if_stale(target, {"video": file_fingerprint(video)}, make))]


def _crop_faces(source: Source, settings: DataSettings, jobs: Jobs) -> StepOutcome:
    landmarks = settings.landmark_path(source.name)
    if not landmarks.is_file():
        raise UserError(
            f"--openface_landmark_dir: {landmarks} does not exist; run --detect_landmark, or OpenFace on the video"
        )
    frames = settings.frame_dir(source.name)
    if source.video is not None:
        fingerprint = file_fingerprint(source.video)
        record = read_record(frames)
        outdated = record is not None and record.made_from.get("video") != fingerprint
        images = frames if frames.is_dir() and not outdated else source.video
    elif (frames / frame_name(0)).is_file():
        fingerprint = file_fingerprint(frames / frame_name(0))
        images = frames
    else:
        raise UserError(
            f"there is neither a video of the name {source.name} nor the folder of its frames {frames}; "
            "run --extract_video_frame or put the video back"
        )

    def make(folder: Path) -> StepResult:
        shots = _read_shots(source, settings, jobs)
        clips = ClipSettings(source.name, landmarks, shots, images, settings.clip_length, settings.jpeg_quality)
        return crop_clips(folder, clips, jobs.run)

    made_from = {
        "pictures": fingerprint,
        "landmarks": file_fingerprint(landmarks),
        "clip_length": settings.clip_length,
        "jpeg_quality": settings.jpeg_quality,
    }
    return [(source, make_if_stale(settings.crop_dir(source.name), made_from, make))]


def _read_shots(source: Source, settings: DataSettings, jobs: Jobs) -> np.ndarray:
    """First frame of each shot, int [S], beginning with 0.

    From NAME_shots.json if it belongs to the video, else from a record of an earlier version. With landmarks of
    OpenFace there is neither: the cuts are then found in the video. Without a video, the frames count as one shot.
    """
    path = settings.shots_path(source.name)
    fingerprint = None if source.video is None else file_fingerprint(source.video)
    if path.is_file():
        try:
            known = json.loads(path.read_bytes())
            if fingerprint in (None, known["video"]):
                return np.array(known["shots"], np.int64)
        except (ValueError, TypeError, KeyError):
            raise UserError(f"{path} does not hold the first frames of shots; remove it") from None
    record = read_record(settings.landmark_path(source.name))
    if record is not None and record.shots is not None and fingerprint in (None, record.made_from.get("video")):
        return np.array(record.shots, np.int64)
    if source.video is None:
        return np.zeros(1, np.int64)
    shots = jobs.call(_find_shots, source.video)
    _write_shots(path, source.video, shots)
    return shots


def _find_shots(video: Path) -> np.ndarray:
    return find_shots(open_training_video(video))[0]


def _write_shots(path: Path, video: Path, shots: np.ndarray) -> None:
    content = {"video": file_fingerprint(video), "shots": shots.tolist()}
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(content), encoding="utf-8")


def _video(source: Source) -> Path:
    if source.video is None:
        raise UserError(f"there is no video of the name {source.name}; check --source_video_dir")
    return require_file(source.video)


_STEPS: dict[str, Callable[[Source, DataSettings, Jobs], StepOutcome]] = {
    "split_video": _split_video,
    "resample_video": _resample_video,
    "split_scene": _split_scene,
    "extract_video_frame": _extract_frames,
    "extract_audio": _extract_audio,
    "extract_audio_feature": _extract_features,
    "detect_landmark": _detect_landmarks,
    "crop_face": _crop_faces,
}
