"""Detail for generated lips, taken from other frames of the same person.

A network generates lips without their high frequencies. Some frames of the source, spread over its lip openings, are
kept in a bank. For each generated frame the bank's frame is found whose lips look most like the generated ones; it is
warped to them by optical flow, and its high frequencies are added where the two agree.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from utils.dubbing.lip_quality import patch_window

BANK_SIZE = 96
"""Frames of the source in the bank."""
KEEP_BONUS = 0.1
"""Fraction by which another entry must be nearer than the last one to replace it: without it the choice flickers."""
TOLERANCE = 0.5
"""Squared difference of two lips, in standard deviations of their luma, at which trust in a match falls to 1/e."""
ERROR_SPREAD = 2.5
"""Standard deviation of the Gaussian over this difference, in cells: with less, fragments of other lips show."""
MAX_FLOW, FLOW_SIGMA = 5.0, 3.0
"""Maximum optical flow, and standard deviation of the Gaussian that smooths it, in cells."""
CLOSED_DIVISOR = 12
"""One entry in this many, those with the smallest lip opening, shows closed lips."""


@dataclass(frozen=True)
class LipFrame:
    """One frame of the bank.

    Attributes:
        opening: of the lips by landmarks, see lip_opening.
        patch: float32 [h, w, 3], the lips in YUV as a lip patch, as soft as the network would generate them.
        details: what the frame shows beyond that, float32 [h, w, channels], luma and chroma.
        origins: (x, y) of their first samples in the planes of the whole frame.
        from_patch: see FaceGeometry.from_patch.
    """

    opening: float
    patch: np.ndarray
    details: list[np.ndarray]
    origins: list[tuple[int, int]]
    from_patch: np.ndarray


@dataclass(frozen=True)
class LipMatch:
    """The entry of the bank that is most like some generated lips.

    Attributes:
        entry: the frame of the bank.
        cells: float32 [h, w, 2], for each cell of the generated lips the (x, y) of the same spot in the entry's patch.
        trust: float32 [h, w] in [0, 1], how well the two agree there.
    """

    entry: LipFrame
    cells: np.ndarray
    trust: np.ndarray


class LipBank:
    """Lips of one person, searched frame after frame.

    Args:
        entries: lips of the source, one or more.
    """

    def __init__(self, entries: list[LipFrame]):
        self._entries = entries
        height, width = entries[0].patch.shape[:2]
        self._cells = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
        self._window = patch_window(height, width)
        self._core = np.clip(4 * self._window, 0, 1)
        self._table = np.stack([self._standardised_luma(entry.patch) for entry in entries])
        by_opening = sorted(entries, key=lambda entry: entry.opening)
        self._closed_patch = np.mean([entry.patch for entry in by_opening[: max(1, len(entries) // CLOSED_DIVISOR)]], 0)
        self._last: int | None = None
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._flow.setFinestScale(0)

    def reset(self) -> None:
        """Forget the last match: the next face does not follow the last one."""
        self._last = None

    def match(self, patch: np.ndarray) -> LipMatch:
        """Find the entry most like some generated lips, float32 [h, w, 3]."""
        query = self._standardised_luma(patch)
        distance = ((self._table - query) ** 2).reshape(len(self._table), -1) @ self._window.ravel()
        if self._last is not None:
            distance[self._last] *= 1 - KEEP_BONUS
        self._last = int(distance.argmin())
        found, entry = self._table[self._last], self._entries[self._last]
        flow = self._flow.calc(_as_image(query), _as_image(found), None)
        flow = cv2.GaussianBlur(flow, (0, 0), FLOW_SIGMA).clip(-MAX_FLOW, MAX_FLOW)
        cells = self._cells + flow
        error = cv2.GaussianBlur((_warped(found, cells) - query) ** 2, (0, 0), ERROR_SPREAD)
        return LipMatch(entry, cells, np.exp(-error / TOLERANCE) * self._core)

    def close(self, patch: np.ndarray, closed: float) -> np.ndarray:
        """Lips float32 [h, w, 3], closed by `closed` (0 .. 1) as far as the source shows closed lips."""
        if not closed:
            return patch
        change = self._closed_patch - patch
        change -= np.median(change[self._window > 0.1], 0)  # the light may have been another one
        return patch + np.float32(closed) * self._core[..., None] * change

    def _standardised_luma(self, patch: np.ndarray) -> np.ndarray:
        """Luma [h, w] with zero mean and about unit variance inside the window: independent of the light."""
        luma = np.ascontiguousarray(patch[..., 0])
        weights = self._window / self._window.sum()
        mean = float((luma * weights).sum())
        deviation = float(np.sqrt((weights * (luma - mean) ** 2).sum()))
        return (luma - mean) / (deviation + 4)


def _warped(image: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """An image [h, w(, c)] sampled at `cells` [h, w, 2]."""
    return cv2.remap(image, cells[..., 0], cells[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _as_image(standardised: np.ndarray) -> np.ndarray:
    """Standardised luma as uint8, for optical flow."""
    return np.clip(128 + 50 * standardised, 0, 255).astype(np.uint8)
