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


class ShotDetector:
    """PySceneDetect's AdaptiveDetector on a stream of frames.

    A cut is a large change of brightness, also relative to the changes before and after it: camera motion and gestures
    are not detected as cuts.

    Args:
        rate: frames per second.
    """

    def __init__(self, rate: float):
        # Imported here: PySceneDetect loads much that --help and a mistyped path do not need.
        from scenedetect import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector

        self._first = FrameTimecode(0, float(rate))
        self._detector = AdaptiveDetector(
            adaptive_threshold=CUT_RATIO,
            min_content_val=MIN_CHANGE,
            luma_only=True,
            min_scene_len=max(1, round(MIN_SHOT_SECONDS * rate)),
        )
        self._count = 0
        self._cuts: list[int] = []

    def add(self, luma: np.ndarray) -> None:
        """Take the next frame, uint8 [H, W]."""
        # Most of the pixels of a large frame are left out: averaging over all of them takes longer than the detection.
        step = max(1, max(luma.shape) // (2 * DETECTION_WIDTH))
        luma = np.ascontiguousarray(luma[::step, ::step])
        scale = DETECTION_WIDTH / max(luma.shape)
        size = tuple(max(8, round(side * min(1, scale))) for side in luma.shape[::-1])
        small = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
        image = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR)
        for cut in self._detector.process_frame(self._first + self._count, image):
            self._cuts.append(cut.frame_num)
        self._count += 1

    def starts(self) -> np.ndarray:
        """First frame of each shot so far, int [S], beginning with 0."""
        return np.array([0, *self._cuts], dtype=np.int64)


def shot_ranges(shots: Sequence[int] | np.ndarray, frame_count: int) -> list[slice]:
    """Slices of the frames of each shot, from the sorted first frames of the shots."""
    bounds = [*[int(start) for start in shots if start < frame_count], frame_count]
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]
