"""The first pass over a source video: frame times, scene cuts, landmarks, and from them the crops."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.face.crop_plan import CropPlan, plan_crops
from utils.face.landmarks import LandmarkTable, fill_gaps, follow_face
from utils.face.openface_csv import check_table_fits, read_openface_csv, write_openface_csv
from utils.face.tracker import FaceTracker
from utils.files import file_fingerprint
from utils.media.shots import ShotDetector
from utils.media.video_reader import VideoInfo, VideoReader
from utils.pipeline import StageTimer, in_background
from utils.progress import Progress

MAX_GAP_SECONDS = 0.4
"""Landmarks missing for no longer than this are interpolated; beyond it the frame stays as it was."""


class NoFaceError(UserError):
    """A video without a face that could be dubbed."""


@dataclass(frozen=True)
class AnalyzedVideo:
    """All that is known about a source video before it is dubbed."""

    reader: VideoReader
    plan: CropPlan


def analyze_video(
    source: Path,
    landmark_path: Path | None,
    landmark_dir: Path | None,
    face: int | None,
    crop_radius: str,
    progress: Progress,
    clock: StageTimer,
    option: str = "--source_video_path",
) -> AnalyzedVideo:
    """Read the source once and plan its crops.

    Args:
        source: video or still picture.
        landmark_path: OpenFace csv; None detects landmarks.
        landmark_dir: where detected landmarks are kept and found again; None keeps none.
        face: face_id of the face to dub; None follows the largest.
        crop_radius: "shot" or "window", see utils.face.crop_plan.
        progress: called as frames are read.
        clock: receives the busy seconds of each stage.
        option: command line option that `source` came from, for error messages.

    Raises:
        UserError: unreadable video or csv, a csv that does not fit the video, no usable face.
    """
    reader = VideoReader(source, option)
    info = reader.info
    cache = None
    if landmark_path is None and landmark_dir is not None:
        cache = landmark_cache(source, landmark_dir)
        if cache.exists():
            landmark_path = cache
    table = None if landmark_path is None else read_openface_csv(landmark_path)
    tracker = FaceTracker(float(info.rate)) if table is None else None
    shot_detector = ShotDetector(float(info.rate))
    count = 0
    for frame in in_background(clock.timed("decode", reader.frames()), size=8):
        begin = time.perf_counter()
        shot_detector.add(frame.luma)
        middle = time.perf_counter()
        clock.add("scene cuts", middle - begin)
        if tracker is not None:
            tracker.add(frame.luma)
            clock.add("landmarks", time.perf_counter() - middle)
        count += 1
        progress("read" if tracker is None else "landmarks", count, 0)
    shots = shot_detector.starts()
    if tracker is not None:
        table = tracker.finish(shots)
        if cache is not None and table.success.any():
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_openface_csv(cache, table, float(info.rate))
            table = read_openface_csv(cache)  # its rounding included: the next run must give the same result
    elif landmark_path != cache:
        check_table_fits(table, count, info.width, info.height, landmark_path, "--source_openface_landmark_path")
    return AnalyzedVideo(reader, _plan(table, shots, count, info, face, crop_radius, option))


def landmark_cache(source: Path, landmark_dir: Path) -> Path:
    """Where the detected landmarks of a video are kept."""
    stem = source.stem.encode()[:150].decode(errors="ignore")  # file systems allow 255 bytes
    return landmark_dir / f"{stem}_{file_fingerprint(source)}.csv"


def _plan(
    table: LandmarkTable,
    shots: np.ndarray,
    count: int,
    info: VideoInfo,
    face: int | None,
    crop_radius: str,
    option: str,
) -> CropPlan:
    if not table.success.any():
        raise NoFaceError(
            f"{option}: no face was found in {info.path}; "
            "use a video with a face seen from the front and at least 40 pixels high"
        )
    points = follow_face(table, count, shots, face)
    points = fill_gaps(points, shots, round(MAX_GAP_SECONDS * info.rate))
    plan = plan_crops(points, shots, info.width, info.height, float(info.rate), crop_radius)
    if not plan.usable.any():
        raise NoFaceError(
            f"{option}: no frame of {info.path} has a usable face: all are too small or mostly outside the picture"
        )
    return plan
