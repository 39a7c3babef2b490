"""Lip metrics from landmarks: distance and correlation of two videos' lips, and lips against the audio."""

from dataclasses import dataclass

import numpy as np

from utils.face.landmarks import MOUTH, eye_distance, lip_opening

MAX_LAG = 12
"""Largest lag that is searched, in frames, each way."""
_MIN_FRAMES = 2 * MAX_LAG + 1


@dataclass(frozen=True)
class LagCurve:
    """Correlation at each lag from -MAX_LAG to MAX_LAG, float [2 MAX_LAG + 1]; NaN with too few frames."""

    correlation: np.ndarray

    @classmethod
    def empty(cls) -> "LagCurve":
        """The curve of too little data: NaN at every lag."""
        return cls(np.full(2 * MAX_LAG + 1, np.nan))

    @property
    def lag(self) -> float:
        """Lag of the highest correlation in frames; NaN if there is none."""
        if np.isnan(self.correlation).all():
            return float("nan")
        return float(np.nanargmax(self.correlation) - MAX_LAG)

    @property
    def peak(self) -> float:
        """The highest correlation."""
        return float("nan") if np.isnan(self.correlation).all() else float(np.nanmax(self.correlation))

    @property
    def unshifted(self) -> float:
        """The correlation at lag 0."""
        return float(self.correlation[MAX_LAG])


def lag_curve(first: np.ndarray, second: np.ndarray) -> LagCurve:
    """Correlate first[t] with second[t + lag]: the lag is positive where the second is late.

    Args:
        first: float [N], one value per frame, NaN where unknown.
        second: float [M], likewise.
    """
    correlation = LagCurve.empty().correlation
    for number, lag in enumerate(range(-MAX_LAG, MAX_LAG + 1)):
        start, stop = max(0, -lag), min(len(first), len(second) - lag)
        if stop - start < _MIN_FRAMES:
            continue
        x, y = first[start:stop], second[start + lag : stop + lag]
        known = np.isfinite(x) & np.isfinite(y)
        if known.sum() >= _MIN_FRAMES and np.std(x[known]) > 1e-9 and np.std(y[known]) > 1e-9:
            correlation[number] = np.corrcoef(x[known], y[known])[0, 1]
    return LagCurve(correlation)


def compare_openings(true: np.ndarray, other: np.ndarray) -> LagCurve:
    """Correlation of the lip openings of two videos, landmarks [N, 68, 2] each; lag positive where `other` is late."""
    return lag_curve(lip_opening(true), lip_opening(other))


def landmark_distance(true: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """LMD of all 68 points and of the mouth's 20: mean distance as a fraction of the true outer eye distance.

    The points are compared in place, without alignment. NaN if no frame has both faces.

    Args:
        true: [N, 68, 2] pixels, NaN without a face.
        other: likewise.
    """
    distance = np.linalg.norm(other - true, axis=-1) / np.maximum(eye_distance(true)[:, None], 1e-6)
    distance = distance[np.isfinite(distance).all(axis=1)]
    if len(distance) == 0:
        return float("nan"), float("nan")
    return float(distance.mean()), float(distance[:, MOUTH].mean())


def lips_and_sound(points: np.ndarray, mel: np.ndarray) -> LagCurve:
    """Correlation of the rate of lip opening with the rate of speech level; the lag is positive where audio is late.

    The level is the mean of the log-mel bands over 40 ms; both rates are central differences. Openings and levels
    themselves correlate through slow changes and found the lag of fewer clips.

    Args:
        points: landmarks of a video at 25 frames per second, [N, 68, 2], NaN without a face.
        mel: log-mel bands, four rows per frame, [4 N, bands].
    """
    frames = len(mel) // 4
    level = mel[: frames * 4].reshape(frames, -1).mean(axis=1)
    if min(len(points), frames) < _MIN_FRAMES:
        return LagCurve.empty()
    return lag_curve(np.gradient(lip_opening(points)), np.gradient(level))
