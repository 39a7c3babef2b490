"""Detail for generated lips: what the same person's own lips look like above the network's resolution.

A network of 64 pixels paints lips without edges. Some frames of the source, spread over the shapes of its mouth, are
kept as a bank. For each generated face the one with the most similar lips is taken, bent to fit them by optical
flow, and what it shows beyond the network's resolution is laid over the generated lips.
"""

from dataclasses import dataclass

import cv2
import numpy as np

BANK_SIZE = 48
"""Frames of the source that lips are looked for in."""
KEEP_BONUS = 0.1
"""By how much nearer other lips have to be than those of the frame before, else the choice flickers."""
TOLERANCE = 0.5
"""Squared difference of lips, in standard deviations of their brightness, from which on they are no longer the same."""
MAX_FLOW = 5.0
"""Largest bend in cells."""


@dataclass(frozen=True)
class LipFrame:
    """One frame of the bank.

    `patch` float32 [PATCH_HEIGHT, PATCH_WIDTH]: brightness of the lips at the network's resolution; `details`: what
    the frame shows beyond it, float32, a plane each for Y, U and V; `origins`: (x, y) of each plane's first sample in
    the plane of the whole frame; `from_patch`: as FaceGeometry has it.
    """

    patch: np.ndarray
    details: list[np.ndarray]
    origins: list[tuple[int, int]]
    from_patch: np.ndarray


class LipBank:
    """Lips of one person, to be looked up frame after frame.

    Args:
        entries: lips of the source, one or more.
    """

    def __init__(self, entries: list[LipFrame]):
        self.entries = entries
        self._table = np.stack([_plain(entry.patch).ravel() for entry in entries])
        height, width = entries[0].patch.shape
        self._cells = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
        self._last: int | None = None
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._flow.setFinestScale(0)

    def forget(self) -> None:
        """The next face does not follow the last one."""
        self._last = None

    def nearest(self, patch: np.ndarray) -> tuple[LipFrame, np.ndarray, np.ndarray]:
        """The entry for generated lips, float32 [height, width] of a lip patch.

        Returns:
            The entry; where its cells lie for each cell of the generated lips, as a shift float32 [height, width, 2];
            and how far the two agree after it, float32 [height, width] in [0, 1].
        """
        query = _plain(patch)
        distance = ((self._table - query.ravel()) ** 2).mean(1)
        if self._last is not None:
            distance[self._last] *= 1 - KEEP_BONUS
        self._last = int(distance.argmin())
        entry = self.entries[self._last]
        found = self._table[self._last].reshape(query.shape)
        flow = self._flow.calc(_grey(query), _grey(found), None)
        flow = cv2.GaussianBlur(flow, (0, 0), 1.5).clip(-MAX_FLOW, MAX_FLOW)
        where = self._cells + flow
        bent = cv2.remap(found, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        error = cv2.blur((bent - query) ** 2, (5, 5))
        return entry, flow, np.exp(-error / TOLERANCE)


def _plain(patch: np.ndarray) -> np.ndarray:
    """Without the tint and contrast of the picture as a whole, slightly blurred, as generated lips are."""
    soft = cv2.GaussianBlur(patch, (0, 0), 1.0)
    return (soft - soft.mean()) / (soft.std() + 4)


def _grey(plain: np.ndarray) -> np.ndarray:
    return np.clip(128 + 50 * plain, 0, 255).astype(np.uint8)
