"""Landmarks of one video, detected in parts by several processes; the csv does not depend on them."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.data_processing.settings import TRAINING_RATE
from utils.data_processing.video_cutting import check_even, open_parts, open_training_video
from utils.executors import RunJobs, run_here
from utils.face.analysis import track_faces
from utils.face.openface_csv import write_openface_csv
from utils.face.parallel import table_of_parts, track_in_parts
from utils.face.tracks import FaceTrack
from utils.media.shots import shot_starts
from utils.media.video_parts import PartError, VideoParts

logger = logging.getLogger(__name__)


def detect_landmarks(video: Path, target: Path, run: RunJobs = run_here) -> tuple[np.ndarray, int, int]:
    """Write the landmarks of a video in OpenFace's layout.

    Args:
        video: at 25 fps.
        target: the csv to write.
        run: runs the jobs.

    Returns:
        First frame of each shot, int [S]; number of frames; number of rows with a face.

    Raises:
        UserError: unreadable, of another rate or unevenly spaced.
        DetectorMissingError: the landmark detector is not installed.
    """
    (parts,) = run(open_parts, [(video,)])
    if parts is not None:
        try:
            tracks, changes = track_in_parts(parts, run)
            return run(_write_joined, [(parts, tracks, changes, target)])[0]
        except PartError:
            logger.info(f"{video}: cannot be read in parts, so one process reads all of it")
    return run(_write_whole, [(video, target)])[0]


def _write_joined(
    parts: VideoParts, tracks: Sequence[FaceTrack], changes: Sequence[float], target: Path
) -> tuple[np.ndarray, int, int]:
    shots = shot_starts(changes, float(TRAINING_RATE))
    table = table_of_parts(parts, tracks, shots)
    write_openface_csv(target, table, float(TRAINING_RATE))
    return shots, len(parts.pts), int(table.success.sum())


def _write_whole(video: Path, target: Path) -> tuple[np.ndarray, int, int]:
    reader = open_training_video(video)
    tracks = track_faces(reader)
    check_even(reader)
    write_openface_csv(target, tracks.table, float(TRAINING_RATE))
    return tracks.shots, tracks.frame_count, int(tracks.table.success.sum())
