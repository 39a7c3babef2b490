"""What the landmark detector has tracked: faces from where they were found to where they were lost, and their table."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from utils.face.landmarks import LEFT_EYE, POINTS, RIGHT_EYE, LandmarkTable
from utils.media.shots import shot_ranges

SAME_PLACE = 0.3
"""A face found that overlaps a lost one by more (intersection over union) is the same again."""
SMOOTHING_SECONDS = 0.026
"""Standard deviation of the Gaussian over time: symmetric, hence without lag, and small, to keep the lips' motion."""


@dataclass(frozen=True)
class Pose:
    """An upright square round a face: centre (x, y), side and rotation (radians) in pixels of the frame."""

    centre: np.ndarray
    side: float
    angle: float

    def near(self, other: "Pose") -> bool:
        """Whether the predictor's answer would hardly change from one pose to the other."""
        moved = np.hypot(*(self.centre - other.centre))
        return moved < 0.06 * other.side and abs(self.side / other.side - 1) < 0.08


def pose_of(points: np.ndarray) -> Pose:
    """Pose of landmarks [68, 2], in the proportions of the boxes that dlib's predictor was trained on."""
    eyes = points[RIGHT_EYE].mean(axis=0) - points[LEFT_EYE].mean(axis=0)
    angle = float(np.arctan2(eyes[1], eyes[0]))
    centre = points.mean(axis=0)
    spread = float(np.sqrt(((points - centre) ** 2).sum(axis=1).mean()))
    up = np.array([np.sin(angle), -np.cos(angle)])
    return Pose(centre + 0.15 * spread * up, 2.7 * spread, angle)


def face_box(points: np.ndarray) -> np.ndarray:
    """(left, top, right, bottom) of the square round landmarks [68, 2]."""
    pose = pose_of(points)
    return np.concatenate([pose.centre - pose.side / 2, pose.centre + pose.side / 2])


def box_overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    inner = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    if (inner <= 0).any():
        return 0.0
    shared = float(np.prod(inner))
    return shared / (float(np.prod(first[2:] - first[:2])) + float(np.prod(second[2:] - second[:2])) - shared)


@dataclass(eq=False)
class FaceTrack:
    """A face from where it was found to where it was lost.

    Attributes:
        start: frame in which it was found.
        found: its landmarks there, [68, 2].
        points: those of its last frame.
        confirmed_frame: the last frame in which the detector saw it.
        frames: (frame, the detector's score, landmarks), confirmed by the detector.
        pending: (frame, landmarks) since then.
        end: frame in which it was lost; None while it is tracked.
    """

    start: int
    found: np.ndarray
    points: np.ndarray
    confirmed_frame: int
    frames: list[tuple[int, float, np.ndarray]] = field(default_factory=list)
    pending: list[tuple[int, np.ndarray]] = field(default_factory=list)
    end: int | None = None

    def confirm(self, frame: int, score: float) -> None:
        """Accept all frames up to this one."""
        self.confirmed_frame = frame
        self.frames += [(number, score, points) for number, points in self.pending]
        self.pending.clear()


def landmark_table(
    tracks: Sequence[FaceTrack], shots: Sequence[int] | np.ndarray, frame_count: int, rate: float
) -> LandmarkTable:
    """Landmarks of a video, smoothed inside its shots.

    Values are rounded as those of an OpenFace csv, so that a run that reads the csv gives the same result.

    Args:
        tracks: its faces, all of them lost, in the order in which they were found.
        shots: int [S], first frame of each shot, beginning with 0.
        frame_count: frames of the video; those without a face get a row with `success` false.
        rate: frames per second.
    """
    numbers = _face_ids(tracks)
    rows = [
        (frame, number, score, points)
        for number, track in sorted(zip(numbers, tracks, strict=True), key=lambda pair: pair[0])
        for frame, score, points in track.frames
    ]
    frame, number = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
    number = np.unique(number, return_inverse=True)[1]  # without the numbers of false detections
    confidence = np.array([1 / (1 + np.exp(-2 - 2 * row[2])) for row in rows])
    points = np.array([row[3] for row in rows], np.float64).reshape(-1, POINTS, 2)
    for face_number in np.unique(number):
        mine = np.flatnonzero(number == face_number)
        for shot in shot_ranges(shots, frame_count):
            inside = mine[(frame[mine] >= shot.start) & (frame[mine] < shot.stop)]
            for run in np.split(inside, np.flatnonzero(np.diff(frame[inside]) > 1) + 1):
                points[run] = _smooth(points[run], rate)
    empty = np.setdiff1d(np.arange(frame_count), frame)
    frame = np.concatenate([frame, empty])
    number = np.concatenate([number, np.zeros_like(empty)])
    confidence = np.concatenate([confidence, np.zeros(len(empty))])
    points = np.concatenate([points, np.zeros((len(empty), POINTS, 2))]).astype(np.float32)
    order = np.lexsort((number, frame))
    return LandmarkTable(
        frame=frame[order],
        face_id=number[order],
        confidence=np.round(confidence[order], 2),
        success=np.repeat([True, False], [len(frame) - len(empty), len(empty)])[order],
        points=np.round(points[order].astype(np.float64), 2).astype(np.float32),
    )


def _face_ids(tracks: Sequence[FaceTrack]) -> list[int]:
    """face_id of each track: that of a face lost before in the same place, else a new one."""
    ids: list[int] = []
    for index, track in enumerate(tracks):
        before = range(index)
        taken = {ids[i] for i in before if tracks[i].end > track.start}
        lost = [i for i in before if tracks[i].end <= track.start and ids[i] not in taken]
        box = face_box(track.found)
        same = [i for i in lost if box_overlap(box, face_box(tracks[i].points)) > SAME_PLACE]
        latest = max(same, key=lambda i: (tracks[i].end, i), default=None)
        ids.append(max(ids, default=-1) + 1 if latest is None else ids[latest])
    return ids


def _smooth(points: np.ndarray, rate: float) -> np.ndarray:
    """Gaussian over time of successive frames [T, 68, 2]."""
    sigma = SMOOTHING_SECONDS * rate
    reach = int(np.ceil(4 * sigma))
    if len(points) < 3:
        return points
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    # Mirrored through the end points, so that motion continues beyond the ends.
    reach = min(reach, len(points) - 1)
    weights = weights[len(weights) // 2 - reach : len(weights) // 2 + reach + 1]
    padded = np.pad(points, ((reach, reach), (0, 0), (0, 0)), mode="reflect", reflect_type="odd")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0)
    return windows @ (weights / weights.sum())
