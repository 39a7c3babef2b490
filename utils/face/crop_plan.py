"""Crop and dubbing weight of every frame of a video."""

from dataclasses import dataclass

import numpy as np

from utils.face.crop_geometry import CropBox, crop_box, frame_radius, round_radius
from utils.media.shots import shot_ranges

MIN_RADIUS = 8
"""Minimum crop radius in pixels; smaller faces are not dubbed."""
MIN_VISIBLE = 0.5
"""Minimum fraction of the mouth region inside the image; frames with less are not dubbed."""
STEADY_RATIO = 1.3
"""A shot whose face size varies by more than this factor (the person comes nearer) has a slowly varying radius."""
FOLLOW_SECONDS = 2.0
"""Length of the window over which that radius varies."""
WINDOW = 2
"""Frames on each side of a frame that share its radius, as published."""


@dataclass(frozen=True)
class CropPlan:
    """Crops of all frames of a video.

    `points` is float32 [N, 68, 2] pixels (NaN without a face), `radius` int [N] pixels (0 where the frame is not
    dubbed), `weight` float32 [N]: 1 dubbed, 0 untouched, between them a cross-fade.
    """

    points: np.ndarray
    radius: np.ndarray
    weight: np.ndarray

    def box(self, frame: int) -> CropBox:
        """Crop of a frame whose weight is above 0."""
        return crop_box(self.points[frame], int(self.radius[frame]))

    @property
    def usable(self) -> np.ndarray:
        """Bool [N]: frames that have a crop."""
        return self.radius > 0


def plan_crops(
    points: np.ndarray,
    shots: np.ndarray,
    width: int,
    height: int,
    rate: float,
    crop_radius: str = "shot",
    fade_seconds: float = 0.2,
) -> CropPlan:
    """Plan the crops of a video.

    Args:
        points: float32 [N, 68, 2] landmarks in pixels, NaN in frames without a face.
        shots: int [S] first frame of each shot, starting with 0.
        width: frame width in pixels.
        height: frame height in pixels.
        rate: frames per second.
        crop_radius: "shot" keeps one radius per shot (it varies slowly where the face size changes much),
            "window" takes the largest of five frames, as published.
        fade_seconds: length of the cross-fade next to frames without a face.
    """
    single = frame_radius(points)
    with np.errstate(invalid="ignore"):
        usable = single >= MIN_RADIUS
    radius = np.zeros(len(points), int)
    for shot in shot_ranges(shots, len(points)):
        if usable[shot].any():
            sizes = np.where(usable[shot], single[shot], np.nan)
            radius[shot] = _shot_radius(sizes, rate) if crop_radius == "shot" else _window_radius(sizes)
    radius[~usable] = 0
    for frame in np.flatnonzero(radius):
        if (
            _visible_fraction(crop_box(points[frame], int(radius[frame])), int(radius[frame]), width, height)
            < MIN_VISIBLE
        ):
            radius[frame] = 0
    weight = np.zeros(len(points), np.float32)
    fade_frames = max(1, round(fade_seconds * rate))
    for shot in shot_ranges(shots, len(points)):
        weight[shot] = _fade(radius[shot] > 0, fade_frames)
    return CropPlan(points, radius, weight)


def _shot_radius(sizes: np.ndarray, rate: float) -> np.ndarray:
    """Radius [T] of one shot from frame radii [T] (NaN without a face)."""
    low, high = np.nanpercentile(sizes, [2, 98])  # a single wrong frame must not set the size of a whole shot
    if high <= STEADY_RATIO * low:
        return np.full(len(sizes), round_radius(high))
    known = np.flatnonzero(~np.isnan(sizes))
    filled = np.interp(np.arange(len(sizes)), known, sizes[known])
    reach = max(1, round(FOLLOW_SECONDS * rate / 2))
    padded = np.pad(filled, reach, mode="edge")
    largest = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1)
    padded = np.pad(largest, reach, mode="edge")
    smooth = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).mean(axis=1)
    return np.array([round_radius(value) for value in smooth])


def _window_radius(sizes: np.ndarray) -> np.ndarray:
    padded = np.pad(np.nan_to_num(sizes, nan=0.0), WINDOW)
    largest = np.lib.stride_tricks.sliding_window_view(padded, 2 * WINDOW + 1).max(axis=1)
    return np.array([round_radius(value) for value in largest])


def _visible_fraction(box: CropBox, radius: int, width: int, height: int) -> float:
    """Fraction of the crop's mouth region (2 r square) that lies inside the frame."""
    top, left = box.top + radius, box.left + radius // 4
    rows = min(top + 2 * radius, height) - max(top, 0)
    columns = min(left + 2 * radius, width) - max(left, 0)
    return max(rows, 0) * max(columns, 0) / (2 * radius) ** 2


def _fade(usable: np.ndarray, frames: int) -> np.ndarray:
    """Weights [T] of one shot: they rise from 0 over `frames` frames next to frames that are not usable.

    A shot's first and last frame need no fade: there is a cut, or the end.
    """
    if usable.all():
        return np.ones(len(usable), np.float32)
    frame = np.arange(len(usable))
    before = np.maximum.accumulate(np.where(usable, -np.inf, frame))
    after = np.minimum.accumulate(np.where(usable, np.inf, frame)[::-1])[::-1]
    distance = np.minimum(frame - before, after - frame)
    return np.minimum(distance / (frames + 1), 1).astype(np.float32)
