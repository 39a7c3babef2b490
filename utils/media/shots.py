"""Scene cuts, detected on a stream of frames."""

import itertools
from collections.abc import Sequence

import cv2
import numpy as np

DETECTION_WIDTH = 256
"""Frames are shrunk to this many pixels on their longer side: cuts are large, noise is small."""
MIN_SHOT_SECONDS = 0.2
CUT_RATIO = 4.0
"""Minimum ratio of the change at a cut to the changes around it. The two changes of a one-frame flash stay below it,
against each other."""
MIN_CHANGE = 6.0
"""Minimum change of brightness at a cut, of 255. Jump cuts of a talking head measure 9 and more, other frames that
stand out measure at most 6; PySceneDetect's default of 15 is made for colour and for films."""
NEIGHBOURS = 2
"""Frames before, and frames after a cut whose mean change it is compared with."""


class ShotDetector:
    """Scene cuts in a stream of frames.

    A cut is a large change of brightness, also relative to the changes before and after it: camera motion and gestures
    are not detected as cuts.

    Args:
        rate: frames per second.

    Attributes:
        changes: how much each frame differs from the one before, see `shot_starts`; 0 for the first.
    """

    def __init__(self, rate: float):
        self._rate = rate
        self._last: np.ndarray | None = None
        self.changes: list[float] = []

    def add(self, luma: np.ndarray) -> None:
        """Take the next frame, uint8 [H, W]."""
        # Most of the pixels of a large frame are left out: averaging over all of them takes longer than the detection.
        step = max(1, max(luma.shape) // (2 * DETECTION_WIDTH))
        luma = np.ascontiguousarray(luma[::step, ::step])
        scale = DETECTION_WIDTH / max(luma.shape)
        size = tuple(max(8, round(side * min(1, scale))) for side in luma.shape[::-1])
        small = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
        change = 0.0 if self._last is None else cv2.norm(small, self._last, cv2.NORM_L1) / small.size
        self.changes.append(change)
        self._last = small

    def starts(self) -> np.ndarray:
        """First frame of each shot so far, int [S], beginning with 0."""
        return shot_starts(self.changes, self._rate)


def shot_starts(changes: Sequence[float], rate: float) -> np.ndarray:
    """First frame of each shot, int [S], beginning with 0: the rule of PySceneDetect's AdaptiveDetector.

    Args:
        changes: mean absolute difference of each frame's brightness from the frame before, of 255; 0 for the first.
        rate: frames per second.
    """
    shortest = max(1, round(MIN_SHOT_SECONDS * rate))
    starts = [0]
    for frame in range(NEIGHBOURS, len(changes) - NEIGHBOURS):
        change = changes[frame]
        if change < MIN_CHANGE:
            continue
        around = [*changes[frame - NEIGHBOURS : frame], *changes[frame + 1 : frame + 1 + NEIGHBOURS]]
        if change >= CUT_RATIO * sum(around) / len(around) and frame - starts[-1] >= shortest:
            starts.append(frame)
    return np.array(starts, dtype=np.int64)


def shot_ranges(shots: Sequence[int] | np.ndarray, frame_count: int) -> list[slice]:
    """Slices of the frames of each shot, from the sorted first frames of the shots."""
    bounds = [*[int(start) for start in shots if start < frame_count], frame_count]
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]
