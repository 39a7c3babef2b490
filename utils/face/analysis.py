"""First pass over a video: frame times, scene cuts and landmarks, and from them the crops."""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.executors import local_executor
from utils.face.crop_plan import CropPlan, plan_crops
from utils.face.landmark_cache import landmark_cache
from utils.face.landmarks import LandmarkTable, fill_gaps, follow_face
from utils.face.openface_csv import check_table_fits, read_openface_csv, write_openface_csv
from utils.face.parallel import table_of_parts, track_in_parts
from utils.face.tracker import FaceTracker
from utils.media.shots import ShotDetector, shot_starts
from utils.media.video_parts import PartError, VideoParts, find_parts
from utils.media.video_reader import VideoReader
from utils.pipeline import StageTimer, in_background
from utils.progress import Progress

logger = logging.getLogger(__name__)

MAX_GAP_SECONDS = 0.4
"""Landmarks missing for no longer than this are interpolated; over longer gaps the frames stay as they are."""
_DECODED_AHEAD = 8


class NoFaceError(UserError):
    """A video without a face that could be dubbed."""


@dataclass(frozen=True)
class FaceTracks:
    """Scene cuts and faces of a video.

    `shots` is int [S], the first frame of each shot, beginning with 0; `table` holds the landmarks of all faces in
    `frame_count` frames.
    """

    shots: np.ndarray
    table: LandmarkTable
    frame_count: int


@dataclass(frozen=True)
class AnalyzedVideo:
    """A video after the first pass over its frames. Can be sent to another process.

    `shots` is int [S], the first frame of each shot, beginning with 0.
    """

    reader: VideoReader
    plan: CropPlan
    shots: np.ndarray


def track_faces(reader: VideoReader, progress: Progress | None = None, timer: StageTimer | None = None) -> FaceTracks:
    """Find the scene cuts and the landmarks of all faces, in one pass over the frames.

    Args:
        reader: the video.
        progress: called as frames are read.
        timer: receives the busy seconds of each stage.

    Raises:
        UserError: the landmark detector is not installed.
    """
    tracker = FaceTracker(float(reader.info.rate))
    shots, count = _read_once(reader, tracker, progress, timer or StageTimer())
    return FaceTracks(shots, tracker.finish(shots), count)


def find_shots(
    reader: VideoReader, progress: Progress | None = None, timer: StageTimer | None = None
) -> tuple[np.ndarray, int]:
    """Find the scene cuts alone: the first frame of each shot, int [S], and the number of frames; see track_faces."""
    return _read_once(reader, None, progress, timer or StageTimer())


def _read_once(
    reader: VideoReader, tracker: FaceTracker | None, progress: Progress | None, timer: StageTimer
) -> tuple[np.ndarray, int]:
    """Run the shot detector and, if given, the tracker on all frames: (first frames of shots, number of frames)."""
    detector = ShotDetector(float(reader.info.rate))
    stage = "read" if tracker is None else "landmarks"
    count = 0
    for frame in in_background(timer.timed("decode", reader.frames()), _DECODED_AHEAD):
        begin = time.perf_counter()
        detector.add(frame.luma)
        middle = time.perf_counter()
        timer.add("scene cuts", middle - begin)
        if tracker is not None:
            tracker.add(frame.luma)
            timer.add("landmarks", time.perf_counter() - middle)
        count += 1
        if progress is not None:
            progress(stage, count, 0)
    return detector.starts(), count


def analyze_video(
    source: Path,
    landmark_path: Path | None = None,
    landmark_dir: Path | None = None,
    face: int | None = None,
    crop_radius: str = "shot",
    progress: Progress | None = None,
    timer: StageTimer | None = None,
) -> AnalyzedVideo:
    """Read a video once and plan its crops.

    Args:
        source: video or still image.
        landmark_path: OpenFace csv; None detects landmarks.
        landmark_dir: where detected landmarks are kept and found again; None keeps none.
        face: face_id of the face to follow; None follows the largest.
        crop_radius: "shot" or "window", see utils.face.crop_plan.
        progress: called as frames are read.
        timer: receives the busy seconds of each stage.

    Raises:
        UserError: unreadable video.
        NoFaceError: no usable face.
        LandmarkFileError: unreadable csv, or one that does not fit the video.
        UnknownFaceError: no face of that id.
    """
    reader = VideoReader(source)
    table = None if landmark_path is None else read_openface_csv(landmark_path)
    cache = None
    if table is None and landmark_dir is not None:
        cache = landmark_cache(source, landmark_dir)
        table = _read_cache(cache)
    if table is None:
        tracks = track_faces(reader, progress, timer)
        table, shots, count = tracks.table, tracks.shots, tracks.frame_count
        if cache is not None:
            _write_cache(cache, tracks, reader)
    else:
        shots, count = find_shots(reader, progress, timer)
        if landmark_path is not None:
            check_table_fits(table, count, reader.info.width, reader.info.height, landmark_path)
    return AnalyzedVideo(reader, _plan(reader, table, shots, count, face, crop_radius), shots)


def cache_landmarks(source: Path, landmark_dir: Path, progress: Progress, workers: int) -> None:
    """Detect the landmarks of a video, by several processes if it is long, and keep them for `analyze_video`.

    Args:
        source: video or still image.
        landmark_dir: where they are kept.
        progress: called as frames are read.
        workers: most processes at a time; the result does not depend on it.

    Raises:
        UserError: unreadable video; the landmark detector is not installed.
    """
    reader = VideoReader(source)
    parts = find_parts(reader)
    tracks = None
    if parts is not None:
        with contextlib.suppress(PartError):
            tracks = _track_in_processes(parts, progress, workers)
    if tracks is None:
        tracks = track_faces(reader, progress)
    _write_cache(landmark_cache(source, landmark_dir), tracks, reader)


def _track_in_processes(parts: VideoParts, progress: Progress, workers: int) -> FaceTracks:
    rate, count = float(parts.reader.info.rate), len(parts.pts)
    with local_executor(min(workers, len(parts.starts))) as executor:

        def run(function: Callable, jobs: Sequence[tuple]) -> list:
            futures = [executor.submit(function, *job) for job in jobs]
            for done, _ in enumerate(as_completed(futures), 1):
                progress("landmarks", count * done // len(futures), 0)
            return [future.result() for future in futures]

        tracks, changes = track_in_parts(parts, run)
    shots = shot_starts(changes, rate)
    return FaceTracks(shots, table_of_parts(parts, tracks, shots), count)


def _write_cache(cache: Path, tracks: FaceTracks, reader: VideoReader) -> None:
    if tracks.table.success.any():
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_openface_csv(cache, tracks.table, float(reader.info.rate))


def _read_cache(path: Path) -> LandmarkTable | None:
    """Landmarks of an earlier run; None if there are none that can be read."""
    if not path.exists():
        return None
    try:
        return read_openface_csv(path)
    except UserError as error:
        logger.warning(f"landmarks are detected again: {error}")
        return None


def _log_faces(table: LandmarkTable, width: int) -> None:
    """Log the faces of a video, if there are several."""
    ids = np.unique(table.face_id[table.success])
    if len(ids) < 2:
        return
    faces = []
    for face in ids:
        rows = table.success & (table.face_id == face)
        frames, points = table.frame[rows], table.points[rows]
        height = np.median(np.ptp(points[..., 1], axis=1))
        faces.append(
            f"face_id {face}: frames {frames.min()} to {frames.max()}, {height:.0f} pixels high, "
            f"at {100 * np.median(points[..., 0]) / width:.0f} % of the width"
        )
    logger.info(f"{len(ids)} faces: {'; '.join(faces)}")


def _plan(
    reader: VideoReader, table: LandmarkTable, shots: np.ndarray, count: int, face: int | None, crop_radius: str
) -> CropPlan:
    info = reader.info
    if not table.success.any():
        raise NoFaceError(
            f"no face was found in {info.path}; use a video with a face seen from the front and at least 40 pixels high"
        )
    _log_faces(table, info.width)
    points = follow_face(table, count, shots, face)
    points = fill_gaps(points, shots, round(MAX_GAP_SECONDS * info.rate))
    plan = plan_crops(points, shots, info.width, info.height, float(info.rate), crop_radius)
    if not plan.usable.any():
        raise NoFaceError(
            f"no frame of {info.path} has a usable face: all are too small or mostly outside the picture; "
            "use a video with a larger face"
        )
    return plan
