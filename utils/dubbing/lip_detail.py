"""A bank of one person's own lips, to give generated lips what a network cannot paint.

A small network paints soft lips, and sometimes lips that this person never has. Some frames of the source, spread
over the openings of its mouth, are kept. Generated lips are drawn towards what those can be mixed to (principal
components), as far as they depart from it further than real lips do. Then the frame with the most similar lips is
taken, bent to fit them by optical flow, and what it shows beyond the network's resolution is laid over the
generated lips.
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
COMPONENTS = 10
"""Principal components of a person's lips."""
MAX_GAIN = 2.0
"""How much further than the network paints it a component may be moved."""
MIN_VARIETY = 8
"""A bank with fewer entries does not show what this person's lips can look like."""


@dataclass(frozen=True)
class LipFrame:
    """One frame of the bank.

    `patch` float32 [h, w, 3]: the lips in YUV as a lip patch, as soft as the network would paint them; `details`: what
    the frame shows beyond that, float32, a plane each for Y, U and V; `origins`: (x, y) of each plane's first sample in
    the plane of the whole frame; `from_patch`: as FaceGeometry has it.
    """

    patch: np.ndarray
    details: list[np.ndarray]
    origins: list[tuple[int, int]]
    from_patch: np.ndarray


@dataclass(frozen=True)
class LipMatch:
    """An entry of the bank for generated lips.

    `shift` float32 [h, w, 2]: from each cell of the generated lips to the same spot of the entry's, in cells; `trust`
    float32 [h, w] in [0, 1]: how far the two agree after that.
    """

    entry: LipFrame
    shift: np.ndarray
    trust: np.ndarray


class LipBank:
    """Lips of one person, to be looked up frame after frame.

    Args:
        entries: lips of the source, one or more.
    """

    def __init__(self, entries: list[LipFrame]):
        self._entries = entries
        height, width = entries[0].patch.shape[:2]
        self._cells = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
        self._window = _window(height, width)
        self._table = np.stack([self._plain(entry.patch) for entry in entries])
        self._mixtures = _Mixtures(np.stack([entry.patch for entry in entries]), self._window)
        self._freedom = 1.0
        self._last: int | None = None
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._flow.setFinestScale(0)

    def learn(self, generated: list[np.ndarray]) -> None:
        """See how generated lips, float32 [h, w, 3] each, of speech of any moment differ from this person's own."""
        patches = np.stack([entry.patch for entry in self._entries])
        if len(patches) >= MIN_VARIETY:
            painted = np.stack(generated)
            halves = _Mixtures(patches[::2], self._window), patches[1::2]
            real, departure = halves[0].departure(halves[1]), self._mixtures.departure(painted)
            share = self._mixtures.calibrate(patches, painted)
            self._freedom = 1 - share * (1 - min(1.0, real / max(departure, 1e-6)))

    def forget(self) -> None:
        """The next face does not follow the last one."""
        self._last = None

    def corrected(self, patch: np.ndarray) -> np.ndarray:
        """Generated lips, float32 [h, w, 3], drawn towards what this person's can be mixed to."""
        mixed = self._mixtures.nearest(patch)
        return self._mixtures.moved(patch) + self._freedom * (patch - mixed)

    def match(self, patch: np.ndarray) -> LipMatch:
        """The entry for generated lips, float32 [h, w, 3]."""
        query = self._plain(patch)
        distance = (self._window * (self._table - query) ** 2).mean((1, 2))
        if self._last is not None:
            distance[self._last] *= 1 - KEEP_BONUS
        self._last = int(distance.argmin())
        found = self._table[self._last]
        shift = self._flow.calc(_grey(query), _grey(found), None)
        shift = cv2.GaussianBlur(shift, (0, 0), 1.5).clip(-MAX_FLOW, MAX_FLOW)
        where = self._cells + shift
        bent = cv2.remap(found, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        error = cv2.blur((bent - query) ** 2, (5, 5))
        return LipMatch(self._entries[self._last], shift, np.exp(-error / TOLERANCE) * _edge(self._window))

    def _plain(self, patch: np.ndarray) -> np.ndarray:
        """Brightness [h, w] without the level and contrast of the picture as a whole."""
        luma = np.ascontiguousarray(patch[..., 0])
        mean = np.average(luma, weights=self._window)
        deviation = np.sqrt(np.average((luma - mean) ** 2, weights=self._window))
        return (luma - mean) / (deviation + 4)


class _Mixtures:
    """What mixing some patches, float32 [N, h, w, 3], can give: their mean and principal components.

    `window` [h, w] says where it matters.
    """

    def __init__(self, patches: np.ndarray, window: np.ndarray):
        self._shape = patches.shape[1:]
        self._weights = np.sqrt(np.broadcast_to(window[..., None], self._shape)).ravel()
        flat = patches.reshape(len(patches), -1)
        self._mean = flat.mean(0)
        centred = flat - self._mean
        left, values, right = np.linalg.svd(centred * self._weights, full_matrices=False)
        count = min(COMPONENTS, int((values > 0.02 * max(values[0], 1e-6)).sum()))
        self._project = right[:count] * self._weights
        self._gain, self._shift, self._middle = np.ones(count), np.zeros(count), np.zeros(count)
        self._components = (left[:, :count] / values[:count]).T @ centred

    def nearest(self, patch: np.ndarray) -> np.ndarray:
        """The mixture nearest to a patch, or to each of [..., h, w, 3]."""
        return (self._mean + self._coefficients(patch) @ self._components).reshape(patch.shape)

    def calibrate(self, real: np.ndarray, generated: np.ndarray) -> float:
        """Learn the mean and the spread of generated patches against those of real ones, [N, h, w, 3] each.

        Returns:
            In [0, 1]: how far the real ones move as much as the generated ones, and so can stand for all mouths.
        """
        own, painted = self._coefficients(real), self._coefficients(generated)
        spread, painted_spread = own.std(0), painted.std(0)
        share = float(np.clip(np.linalg.norm(spread) / max(np.linalg.norm(painted_spread), 1e-6), 0, 1))
        self._gain = np.clip(spread / np.maximum(painted_spread, 1e-6), 1, MAX_GAIN)
        self._shift = share * (own.mean(0) - painted.mean(0))
        self._middle = painted.mean(0)
        return share

    def moved(self, patch: np.ndarray) -> np.ndarray:
        """The mixture nearest to a generated patch, moved as far as real ones move."""
        off = self._coefficients(patch) - self._middle
        mixed = (self._middle + self._shift + self._gain * off) @ self._components
        return (self._mean + mixed).reshape(patch.shape)

    def _coefficients(self, patch: np.ndarray) -> np.ndarray:
        return (patch.reshape(*patch.shape[:-3], -1) - self._mean) @ self._project.T

    def departure(self, patches: np.ndarray) -> float:
        """Root mean square difference of patches [N, h, w, 3] from their nearest mixtures, in levels."""
        difference = (patches - self.nearest(patches)).reshape(len(patches), -1)
        return float(np.sqrt(((difference * self._weights) ** 2).mean()))


def _window(height: int, width: int) -> np.ndarray:
    """Float32 [h, w]: 1 in the middle of a patch, falling to 0 at the edges."""
    x, y = (np.linspace(-1, 1, size) for size in (width, height))
    return np.clip(1 - np.hypot(x[None] ** 2, y[:, None] ** 2), 0, 1).astype(np.float32)


def _edge(window: np.ndarray) -> np.ndarray:
    return np.clip(window * 4, 0, 1)


def _grey(plain: np.ndarray) -> np.ndarray:
    return np.clip(128 + 50 * plain, 0, 255).astype(np.uint8)
