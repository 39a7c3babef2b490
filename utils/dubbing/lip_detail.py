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
CLOSED_SHARE = 12
"""One frame of this many, those with the lips closed furthest, shows what closed lips look like."""
COMPONENTS = 10
"""Principal components of a person's lips."""
DEPARTURE = 1.1
"""Generated lips that depart from the mixtures further than real ones, by this factor, are drawn towards them."""
MIN_SHARE = 0.5
"""Lips of the source that move less than this fraction of the generated ones (a portrait, a silent person) show too few
shapes: then the generated lips keep theirs."""
MAX_GAIN = 2.0
"""By how much generated lips that move too little are taken to move further, when lips are looked for."""
DRAWN = 0.5
"""How far generated lips are drawn towards the mixtures: whole, what the speech moves would be drawn away, too."""
MIN_VARIETY = 8
"""A bank with fewer entries does not show what this person's lips can look like."""


@dataclass(frozen=True)
class LipFrame:
    """One frame of the bank.

    `opening`: of the lips, see lip_opening; `patch` float32 [h, w, 3]: the lips in YUV as a lip patch, as soft as the
    network would paint them; `details`: what the frame shows beyond that, float32 [h, w, channels], luma and chroma;
    `origins`: (x, y) of their first samples in the planes of the whole frame; `from_patch`: as FaceGeometry has it.
    """

    opening: float
    patch: np.ndarray
    details: list[np.ndarray]
    origins: list[tuple[int, int]]
    from_patch: np.ndarray


@dataclass(frozen=True)
class LipMatch:
    """An entry of the bank for generated lips.

    `cells` float32 [h, w, 2]: for each cell of the generated lips the spot (x, y) of the entry's that looks the same;
    `trust` float32 [h, w] in [0, 1]: how far the two agree there.
    """

    entry: LipFrame
    cells: np.ndarray
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
        closed = sorted(entries, key=lambda entry: entry.opening)[: max(1, len(entries) // CLOSED_SHARE)]
        self._closed = np.mean([entry.patch for entry in closed], 0)
        self._middle = self._real_middle = self._shift = np.zeros_like(entries[0].patch)
        self._gain = 1.0
        self._limit: float | None = None
        self._drawn = 0.0
        self._last: int | None = None
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._flow.setFinestScale(0)

    def learn(self, real: np.ndarray, generated: np.ndarray) -> None:
        """See how generated lips, of speech of any moment, differ from the real ones of the same frames.

        Args:
            real: lip patches float32 [N, h, w, 3], as soft as those of the bank.
            generated: the same.
        """
        if len(self._entries) < MIN_VARIETY:
            return
        spread, painted_spread = (self._mixtures.spread(patches) for patches in (real, generated))
        share = min(1.0, spread / max(painted_spread, 1e-6))
        if share < MIN_SHARE:
            return
        self._middle, self._real_middle = generated.mean(0), real.mean(0)
        self._gain = float(np.clip(spread / max(painted_spread, 1e-6), 1, MAX_GAIN))
        self._shift = share * (self._mixtures.nearest(self._real_middle) - self._mixtures.nearest(self._middle))
        departure, known = (self._mixtures.departure(patches).mean() for patches in (generated, real))
        if departure > DEPARTURE * known:
            # Frames that the mixtures were not made of depart further than those they were.
            own = np.stack([entry.patch for entry in self._entries])
            unseen = _Mixtures(own[::2], self._window).departure(own[1::2]).mean()
            self._limit, self._drawn = float(unseen), DRAWN * share

    def forget(self) -> None:
        """The next face does not follow the last one."""
        self._last = None

    def corrected(self, patch: np.ndarray, closed: float = 0.0) -> np.ndarray:
        """Generated lips, float32 [h, w, 3], drawn towards what this person's can be mixed to.

        `closed`: 0 .. 1, how far they are to be closed, as far as the source shows closed lips.
        """
        mixed = self._mixtures.nearest(patch)
        rest = patch - mixed
        if self._limit is not None:
            kept = self._limit / max(float(self._mixtures.departure(patch[None])[0]), self._limit)
            rest = rest * np.float32(1 - self._drawn * (1 - kept))
        return self._closing(mixed + self._shift + rest, closed)

    def match(self, patch: np.ndarray, closed: float = 0.0) -> LipMatch:
        """The entry for generated lips, float32 [h, w, 3], before they are corrected; `closed` as there.

        What they depart from their mean is sought as far from the mean of the real ones as real ones move.
        """
        wanted = self._closing(self._real_middle + self._gain * (patch - self._middle), closed)
        query = self._plain(wanted)
        distance = ((self._table - query) ** 2).reshape(len(self._table), -1) @ self._window.ravel()
        if self._last is not None:
            distance[self._last] *= 1 - KEEP_BONUS
        self._last = int(distance.argmin())
        found = self._table[self._last]
        shift = self._flow.calc(_grey(query), _grey(found), None)
        shift = cv2.GaussianBlur(shift, (0, 0), 1.5).clip(-MAX_FLOW, MAX_FLOW)
        where = self._cells + shift
        bent = cv2.remap(found, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        error = cv2.blur((bent - query) ** 2, (5, 5))
        trust = np.exp(-error / TOLERANCE) * np.clip(4 * self._window, 0, 1)
        return LipMatch(self._entries[self._last], where, trust)

    def _closing(self, patch: np.ndarray, closed: float) -> np.ndarray:
        return patch + np.float32(closed) * (self._closed - patch) if closed else patch

    def _plain(self, patch: np.ndarray) -> np.ndarray:
        """Brightness [h, w] without the level and contrast of the picture as a whole."""
        luma = np.ascontiguousarray(patch[..., 0])
        weights = self._window / self._window.sum()
        mean = float((luma * weights).sum())
        deviation = float(np.sqrt((weights * (luma - mean) ** 2).sum()))
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
        self._components = (left[:, :count] / values[:count]).T @ centred

    def nearest(self, patch: np.ndarray) -> np.ndarray:
        """The mixture nearest to a patch, or to each of [..., h, w, 3]."""
        return (self._mean + self._coefficients(patch) @ self._components).reshape(patch.shape)

    def spread(self, patches: np.ndarray) -> float:
        """How far patches [N, h, w, 3] move, root mean square in levels, as far as mixtures show it."""
        return float(np.linalg.norm(self._coefficients(patches).std(0)))

    def _coefficients(self, patch: np.ndarray) -> np.ndarray:
        return (patch.reshape(*patch.shape[:-3], -1) - self._mean) @ self._project.T

    def departure(self, patches: np.ndarray) -> np.ndarray:
        """Root mean square differences [N] of patches [N, h, w, 3] from their nearest mixtures, in levels."""
        difference = (patches - self.nearest(patches)).reshape(len(patches), -1)
        return np.sqrt(((difference * self._weights) ** 2).mean(1))


def _window(height: int, width: int) -> np.ndarray:
    """Float32 [h, w]: 1 in the middle of a patch, falling to 0 at the edges."""
    x, y = (np.linspace(-1, 1, size) for size in (width, height))
    return np.clip(1 - np.hypot(x[None] ** 2, y[:, None] ** 2), 0, 1).astype(np.float32)


def _grey(plain: np.ndarray) -> np.ndarray:
    return np.clip(128 + 50 * plain, 0, 255).astype(np.uint8)
