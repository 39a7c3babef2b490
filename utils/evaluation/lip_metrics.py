"""Lips of two videos against each other, and lips against the sound, by landmarks and without a network."""

from dataclasses import dataclass

import numpy as np

from utils.face.landmarks import lip_opening

MAX_LAG = 12
"""Lags are looked for up to this many frames each way."""
_MOUTH = slice(48, 68)
_FEWEST_FRAMES = 2 * MAX_LAG + 1


@dataclass(frozen=True)
class LagCurve:
    """Correlation at each lag from -MAX_LAG to MAX_LAG, float [2 MAX_LAG + 1]; NaN where there is too little."""

    correlation: np.ndarray

    @property
    def lag(self) -> float:
        """Lag of the highest correlation in frames; NaN where there is none."""
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
    """Correlate first[t] with second[t + lag]: positive lags where the second comes late.

    Args:
        first: float [N], one value a frame, NaN where unknown.
        second: float [M], likewise.
    """
    correlation = np.full(2 * MAX_LAG + 1, np.nan)
    for number, lag in enumerate(range(-MAX_LAG, MAX_LAG + 1)):
        start, stop = max(0, -lag), min(len(first), len(second) - lag)
        if stop - start < _FEWEST_FRAMES:
            continue
        x, y = first[start:stop], second[start + lag : stop + lag]
        known = np.isfinite(x) & np.isfinite(y)
        if known.sum() >= _FEWEST_FRAMES and np.std(x[known]) > 1e-9 and np.std(y[known]) > 1e-9:
            correlation[number] = np.corrcoef(x[known], y[known])[0, 1]
    return LagCurve(correlation)


def compare_openings(true: np.ndarray, other: np.ndarray) -> LagCurve:
    """Correlation of the lip openings of two videos, landmarks [N, 68, 2] each; lag positive where `other` is late."""
    return lag_curve(lip_opening(true), lip_opening(other))


def landmark_distance(true: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """LMD of all 68 points and of the 20 of the mouth: mean distance, as a share of the true outer eye distance.

    The points are compared where they are in the picture, without alignment. NaN where no frame has both faces.

    Args:
        true: [N, 68, 2] pixels, NaN without a face.
        other: likewise.
    """
    eyes = np.linalg.norm(true[:, 45] - true[:, 36], axis=-1)[:, None]
    distance = np.linalg.norm(other - true, axis=-1) / np.maximum(eyes, 1e-6)
    distance = distance[np.isfinite(distance).all(axis=1)]
    if len(distance) == 0:
        return float("nan"), float("nan")
    return float(distance.mean()), float(distance[:, _MOUTH].mean())


def lips_and_sound(points: np.ndarray, mel: np.ndarray) -> LagCurve:
    """Correlation of the lips' speed of opening with the speech level's speed of rising; positive where sound is late.

    The level is the mean of the log-mel bands over a slot of 40 ms, both speeds are central differences: of the simple
    measures, this one found the lag of most clips, where openings and levels themselves are led astray by slow changes.

    Args:
        points: landmarks of a video at 25 frames a second, [N, 68, 2], NaN without a face.
        mel: log-mel bands, four rows a frame, [4 N, bands].
    """
    slots = len(mel) // 4
    level = mel[: slots * 4].reshape(slots, -1).mean(axis=1)
    if min(len(points), slots) < _FEWEST_FRAMES:
        return LagCurve(np.full(2 * MAX_LAG + 1, np.nan))
    return lag_curve(np.gradient(lip_opening(points)), np.gradient(level))
