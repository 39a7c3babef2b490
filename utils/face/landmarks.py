"""The 68 face landmarks: which point is what, lip and head measures, and one face followed through a video.

Points are numbered from 0 as in iBUG's 300-W, which dlib and OpenFace follow. Left and right are those of the image.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from utils.errors import UserError
from utils.media.shots import shot_ranges

Array = TypeVar("Array")
"""A NumPy array or a PyTorch tensor."""

POINTS = 68
LEFT_EYE, RIGHT_EYE = slice(36, 42), slice(42, 48)
LEFT_EYE_CORNER, RIGHT_EYE_CORNER = 36, 45
"""Outer corners of the eyes; their distance is the unit of distances in a face."""
NOSE = slice(27, 36)
NOSE_BRIDGE, NOSE_TIP, NOSE_BASE = 29, 30, 33
NOSE_BASE_LINE = [35, 33, 31]
"""Lower edge of the nose, from right to left."""
STABLE_POINTS = [*range(27, 36), 36, 39, 42, 45]
"""Nose and eye corners: points that do not move with speech."""
LOWER_JAW = slice(4, 13)
"""The jaw line from cheek to cheek, without the parts beside the ears."""
MOUTH = slice(48, 68)
MOUTH_LEFT, MOUTH_RIGHT = 48, 54
INNER_LIP_TOP, INNER_LIP_BOTTOM = 62, 66
"""Middles of the upper and the lower lip's inner edge."""
OUTER_LIP_UPPER, OUTER_LIP_LOWER = [48, 49, 50, 51, 52, 53, 54], [48, 59, 58, 57, 56, 55, 54]
INNER_LIP_UPPER, INNER_LIP_LOWER = [60, 61, 62, 63, 64], [60, 67, 66, 65, 64]
"""Edges of the lips, each from left to right."""
CHIN = 8
"""Lowest point of the jaw line."""

LIP_SHAPE_VALUES = 2 * (MOUTH.stop - MOUTH.start)
"""Length of a lip shape: x and y of each point of the mouth."""
LIP_SHAPE_UNIT = 0.05
"""Unit of lip shapes as a fraction of the distance between the eyes: about how far lips move in speech."""

HELD_FRAMES = 5
"""Frames without landmarks at the beginning or end of a shot that take those of the nearest frame."""

LINK_FRAMES = 50
"""A face that is away for longer than this begins a new track."""


class UnknownFaceError(UserError):
    """A face_id that the landmarks do not have."""


@dataclass(frozen=True)
class LandmarkTable:
    """Landmarks of all faces in all frames, one row per face and frame.

    `frame` int [N] from 0, `face_id` int [N], `confidence` float [N] in [0, 1], `success` bool [N],
    `points` float32 [N, 68, 2] pixels (x, y) of the full frame.
    """

    frame: np.ndarray
    face_id: np.ndarray
    confidence: np.ndarray
    success: np.ndarray
    points: np.ndarray

    @property
    def frame_count(self) -> int:
        """Frames up to the last that has a row."""
        return int(self.frame.max()) + 1


def eye_distance(points: np.ndarray) -> np.ndarray:
    """Distance of the outer eye corners in pixels, [...], from landmarks [..., 68, 2]."""
    return np.linalg.norm(points[..., RIGHT_EYE_CORNER, :] - points[..., LEFT_EYE_CORNER, :], axis=-1)


def lip_opening(points: np.ndarray) -> np.ndarray:
    """Distance of the inner lips, [...], as a fraction of the outer eye distance, from landmarks [..., 68, 2]."""
    opening = np.linalg.norm(points[..., INNER_LIP_BOTTOM, :] - points[..., INNER_LIP_TOP, :], axis=-1)
    return opening / np.maximum(eye_distance(points), 1e-6)


def mouth_width(points: np.ndarray) -> np.ndarray:
    """Distance of the corners of the mouth, [...], as a fraction of the outer eye distance, likewise."""
    width = np.linalg.norm(points[..., MOUTH_RIGHT, :] - points[..., MOUTH_LEFT, :], axis=-1)
    return width / np.maximum(eye_distance(points), 1e-6)


def frontality(points: np.ndarray) -> np.ndarray:
    """How much a head [..., 68, 2] faces the camera, [...]: 1 with the nose midway between the eyes, 0 in profile."""
    left = np.linalg.norm(points[..., NOSE_TIP, :] - points[..., LEFT_EYE_CORNER, :], axis=-1)
    right = np.linalg.norm(points[..., NOSE_TIP, :] - points[..., RIGHT_EYE_CORNER, :], axis=-1)
    return np.minimum(left, right) / np.maximum(np.maximum(left, right), 1e-6)


def lip_shapes(points: np.ndarray) -> np.ndarray:
    """Lip shapes of a video relative to the person's resting shape, independent of head position, size and tilt.

    Args:
        points: landmarks [N, 68, 2] in pixels, NaN without a face; at least one frame has a face.

    Returns:
        float32 [N, LIP_SHAPE_VALUES]: (x, y) of the points 48..67 in units of LIP_SHAPE_UNIT eye distances, their
        median over the video subtracted; NaN without a face.
    """
    lips = absolute_lip_shapes(points)
    return lips - np.nanmedian(lips, axis=0)


def absolute_lip_shapes(points: np.ndarray) -> np.ndarray:
    """As lip_shapes, without subtracting the resting shape: relative to the middle of the nose."""
    left, right = points[:, LEFT_EYE].mean(1), points[:, RIGHT_EYE].mean(1)
    across = right - left
    distance = np.linalg.norm(across, axis=1)[:, None, None]
    cos, sin = (across / distance[:, 0]).T
    upright = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], -2)  # [N, 2, 2]
    lips = (points[:, MOUTH] - points[:, NOSE].mean(1, keepdims=True)) @ upright.swapaxes(1, 2) / distance
    return (lips / LIP_SHAPE_UNIT).reshape(len(points), LIP_SHAPE_VALUES).astype(np.float32)


def opening_and_width(shapes: Array) -> tuple[Array, Array]:
    """Lip opening (points 62 to 66, downwards) and width (48 to 54), [...] each, from lip shapes [..., 40].

    Works on NumPy arrays and PyTorch tensors alike. Beyond the resting shape's where `shapes` are relative to it.
    """
    x, y = shapes[..., 0::2], shapes[..., 1::2]
    first = MOUTH.start
    opening = y[..., INNER_LIP_BOTTOM - first] - y[..., INNER_LIP_TOP - first]
    return opening, x[..., MOUTH_RIGHT - first] - x[..., MOUTH_LEFT - first]


def follow_face(
    table: LandmarkTable,
    frame_count: int | None = None,
    shots: Sequence[int] | np.ndarray = (0,),
    face: int | None = None,
) -> np.ndarray:
    """Landmarks of one face through the video.

    Args:
        table: all faces.
        frame_count: frames of the video, N; None: up to the table's last.
        shots: int [S], first frame of each shot, beginning with 0.
        face: face_id to take; None follows, in each shot, the face that covers most area over time.

    Returns:
        float32 [N, 68, 2], NaN where the face is missing.

    Raises:
        UnknownFaceError: no face of that id.
    """
    frame_count = table.frame_count if frame_count is None else frame_count
    rows = np.flatnonzero(table.success & (table.frame < frame_count))
    if face is not None:
        present = np.unique(table.face_id[rows])
        if face not in present:
            raise UnknownFaceError(f"there is no face {face}; the landmarks have {', '.join(map(str, present))}")
        rows = rows[table.face_id[rows] == face]
    points = np.full((frame_count, POINTS, 2), np.nan, np.float32)
    for shot in shot_ranges(shots, frame_count):
        inside = rows[(table.frame[rows] >= shot.start) & (table.frame[rows] < shot.stop)]
        if len(inside):
            track = _largest_track(table, inside)
            points[table.frame[track]] = table.points[track]
    return points


def _largest_track(table: LandmarkTable, rows: np.ndarray) -> np.ndarray:
    """Rows of the face with the largest sum of areas. Rows are linked by position: ids may change or be absent."""
    low, high = table.points[rows].min(axis=1), table.points[rows].max(axis=1)
    centre, size = (low + high) / 2, (high - low).max(axis=1)
    area = np.prod(high - low, axis=1)
    tracks: list[list[int]] = []
    order = np.argsort(table.frame[rows], kind="stable")
    frame = table.frame[rows]
    for group in np.split(order, np.flatnonzero(np.diff(frame[order])) + 1):
        pairs = sorted(
            (float(np.linalg.norm(centre[track[-1]] - centre[item]) / size[track[-1]]), number, int(item))
            for number, track in enumerate(tracks)
            if frame[group[0]] - frame[track[-1]] <= LINK_FRAMES
            for item in group
        )
        linked_tracks, linked_items = set(), set()
        for distance, number, item in pairs:
            # Half a face is further than a head moves between frames, and less than two heads are apart.
            if distance < 0.5 and number not in linked_tracks and item not in linked_items:
                tracks[number].append(item)
                linked_tracks.add(number)
                linked_items.add(item)
        tracks.extend([int(item)] for item in group if int(item) not in linked_items)
    best = max(tracks, key=lambda track: float(area[track].sum()))
    # The same person after a gap in which the link broke: fill in what lies in frames that the best track lacks.
    chosen = {int(frame[item]): item for item in best}
    for track in sorted(tracks, key=lambda track: -float(area[track].sum())):
        frames = [int(frame[item]) for item in track]
        if track is not best and not any(frame in chosen for frame in frames):
            chosen.update(zip(frames, track, strict=True))
    return rows[[chosen[frame] for frame in sorted(chosen)]]


def fill_gaps(points: np.ndarray, shots: np.ndarray, max_gap_frames: int) -> np.ndarray:
    """Interpolate short gaps inside shots; at a shot's edge the nearest landmarks are held for a few frames.

    Args:
        points: float32 [N, 68, 2], NaN where missing.
        shots: int [S], first frame of each shot, beginning with 0.
        max_gap_frames: longer gaps stay as they are.

    Returns:
        float32 [N, 68, 2].
    """
    filled = points.copy()
    for shot in shot_ranges(shots, len(points)):
        part = filled[shot]  # a view
        known = np.flatnonzero(~np.isnan(part[:, 0, 0]))
        if len(known) == 0:
            continue
        for before, after in itertools.pairwise(known):
            if 1 < after - before <= max_gap_frames + 1:
                fraction = (np.arange(1, after - before) / (after - before))[:, None, None]
                part[before + 1 : after] = part[before] * (1 - fraction) + part[after] * fraction
        if known[0] <= HELD_FRAMES:
            part[: known[0]] = part[known[0]]
        if len(part) - 1 - known[-1] <= HELD_FRAMES:
            part[known[-1] + 1 :] = part[known[-1]]
    return filled
