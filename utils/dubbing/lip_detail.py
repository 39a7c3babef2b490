"""Real lips for generated ones, taken from other frames of the same person.

A small network generates soft lips, and often lips that this person never has. Some frames of the source, spread over
its lip openings, are kept in a bank. For each generated frame the bank's frame is found whose lips have the opening and
width that the generated ones ask for and look most like them, whose head is turned likewise, and which follows the last
choice smoothly. It is warped to the generated lips by optical flow, and its high frequencies, which the network cannot
generate, are added.

How far its low frequencies replace the generated ones, too, depends on the network: not at all if the generated lips
move as much as the real ones and are as close to the principal components of the bank's lips, wholly if they move much
less or lie far from them. The real lips are then put into the light of the frame, told by the skin around the lips.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from utils.dubbing.face_geometry import PATCH_CENTRE

BANK_SIZE = 96
"""Frames of the source in the bank."""
KEEP_BONUS = 0.1
"""Fraction by which another entry must be nearer than the last one to replace it: without it the choice flickers."""
SHAPE_WEIGHT = 30.0
"""Weight of opening and width, in standard deviations, against the look of the lips when an entry is chosen."""
POSE_WEIGHT = 4.0
"""The same of the turn of the head, in cells of FaceGeometry.pose: lips of another turn do not sit right."""
TRANSITION_WEIGHT = 8.0
"""Weight of the difference from the last entry: without it the lips jump."""
MAX_SHAPE_GAIN = 2.5
"""Maximum factor on the motion of opening and width of generated lips that move too little."""
MOTION_RATIO, RESIDUAL_RATIO = (1.15, 1.35), (1.1, 1.25)
"""Motion of real lips over that of generated ones, and residual of generated lips over that of real ones: up to the
first the generated lips stay, from the second on real ones replace them wholly. In between, both show faintly."""
TALKING_STD = (0.1, 0.3)
"""Standard deviations of the lip opening by the mouth reader: up to the first a source shows too few lips to choose
from, from the second on enough."""
LIGHT_SIGMA = 7.0
"""Standard deviation of the Gaussian, in cells, that carries the light of the skin around the lips into them."""
SKIN_TOLERANCE = 40.0
"""Difference of an entry from the source in levels, summed over Y, U and V and beyond the median one, at which 1/e of
the trust is left that both show skin: where the head is turned, one of them may show the background."""
LIP_WIDTH, LIP_HEIGHT = 0.7, 0.6
"""Half axes of an ellipse that lips seldom leave, as fractions of those of a lip patch: outside it is skin."""
TOLERANCE = 0.5
"""Squared difference of two lips, in standard deviations of their luma, at which trust in a match falls to 1/e."""
ERROR_SPREAD = 2.5
"""Standard deviation of the Gaussian over this difference, in cells: with less, fragments of other lips show."""
MAX_FLOW, FLOW_SIGMA = 5.0, 3.0
"""Maximum optical flow, and standard deviation of the Gaussian that smooths it, in cells."""
REPLACED_FLOW = 0.2
"""Fraction of the flow by which lips are warped that replace the generated ones: these have errors to warp to."""
CLOSED_DIVISOR = 12
"""One entry in this many, those with the smallest lip opening, shows closed lips."""
COMPONENTS = 10
"""Number of principal components."""
MIN_MOTION_RATIO = 0.5
"""A source whose lips move less than this fraction of the generated ones (a portrait, a silent person) shows too few
shapes: its bank then replaces nothing."""
MAX_MATCH_GAIN = 2.0
"""Maximum factor on the motion of generated lips that move too little, when they are matched."""
MIN_ENTRIES = 8
"""A bank with fewer entries does not show what this person's lips can look like."""


@dataclass(frozen=True)
class LipFrame:
    """One frame of the bank.

    Attributes:
        opening: of the lips by landmarks, see lip_opening.
        shape: opening and width by the mouth reader, [2].
        pose: see FaceGeometry.pose.
        patch: float32 [h, w, 3], the lips in YUV as a lip patch, as soft as the network would generate them.
        details: what the frame shows beyond that, float32 [h, w, channels], luma and chroma.
        origins: (x, y) of their first samples in the planes of the whole frame.
        from_patch: see FaceGeometry.from_patch.
    """

    opening: float
    shape: np.ndarray
    pose: np.ndarray
    patch: np.ndarray
    details: list[np.ndarray]
    origins: list[tuple[int, int]]
    from_patch: np.ndarray


@dataclass(frozen=True)
class LipMatch:
    """The entry of the bank that is most like some generated lips.

    Attributes:
        entry: the frame of the bank.
        patch: its lips, warped to the generated ones and in the light of the frame, float32 [h, w, 3].
        cells: float32 [h, w, 2], for each cell of the generated lips the (x, y) of the same spot in the entry's patch.
        trust: float32 [h, w] in [0, 1], how well the two agree there.
        weight: float32 [h, w] in [0, 1], where the entry may replace the generated lips.
    """

    entry: LipFrame
    patch: np.ndarray
    cells: np.ndarray
    trust: np.ndarray
    weight: np.ndarray


class LipBank:
    """Lips of one person, searched frame after frame.

    Args:
        entries: lips of the source, one or more.
    """

    def __init__(self, entries: list[LipFrame]):
        self._entries = entries
        height, width = entries[0].patch.shape[:2]
        self._cells = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
        self._window = _window(height, width)
        self._core = np.clip(4 * self._window, 0, 1)
        self._outside = _outside_lips(height, width)
        self._ring = (self._core * self._outside) > 0.5
        self._table = np.stack([self._standardised_luma(entry.patch) for entry in entries])
        self._transitions = np.stack([self._distances(luma) for luma in self._table])
        self._shapes = np.stack([entry.shape for entry in entries])
        self._poses = np.stack([entry.pose for entry in entries])
        self._mean_shape, self._shape_std = self._shapes.mean(0), self._shapes.std(0) + 1e-6
        self._shape_range = np.quantile(self._shapes, (0.02, 0.98), axis=0)  # beyond them the reader is often wrong
        self._patches = np.stack([entry.patch for entry in entries])
        self._pca = _LipPCA(self._patches, self._window)
        by_opening = np.argsort([entry.opening for entry in entries], kind="stable")
        self._closed_patch = self._patches[by_opening[: max(1, len(entries) // CLOSED_DIVISOR)]].mean(0)
        self._generated_mean = self._real_mean = np.zeros_like(entries[0].patch)
        self._match_gain = 1.0
        self._shape_gain, self._generated_shape = np.ones(2), self._mean_shape
        self.need = 0.0
        """0 .. 1, how far the generated lips are to be replaced; set by `fit`."""
        self._last: int | None = None
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._flow.setFinestScale(0)

    def fit(self, real: np.ndarray, generated: np.ndarray, generated_shapes: np.ndarray) -> None:
        """Measure how generated lips differ from the real ones of the same frames, for `match` and `replace`.

        Args:
            real: lip patches float32 [N, h, w, 3], as soft as those of the bank.
            generated: likewise, from speech of any moment.
            generated_shapes: opening and width of the generated lips by the mouth reader, [N, 2].
        """
        if len(self._entries) < MIN_ENTRIES:
            return
        real_motion, generated_motion = (self._pca.motion(patches) for patches in (real, generated))
        ratio = real_motion / max(generated_motion, 1e-6)
        if ratio < MIN_MOTION_RATIO:
            return
        self._generated_mean, self._real_mean = generated.mean(0), real.mean(0)
        self._match_gain = float(np.clip(ratio, 1, MAX_MATCH_GAIN))
        self._generated_shape = generated_shapes.mean(0)
        gain = self._shape_std / (generated_shapes.std(0) + 1e-6)
        self._shape_gain = np.clip(gain, 1 / MAX_SHAPE_GAIN, MAX_SHAPE_GAIN)
        # Frames that the components were not made of have a larger residual than those they were made of.
        half = _LipPCA(self._patches[::2], self._window)
        unseen = float(half.residual(self._patches[1::2]).mean())
        residual_ratio = half.residual(generated).mean() / max(unseen, half.residual(real).mean(), 1e-6)
        poor = max(np.interp(ratio, MOTION_RATIO, (0, 1)), np.interp(residual_ratio, RESIDUAL_RATIO, (0, 1)))
        self.need = float(poor * np.interp(self._shape_std[0], TALKING_STD, (0, 1)))

    def reset(self) -> None:
        """Forget the last match: the next face does not follow the last one."""
        self._last = None

    def match(
        self, patch: np.ndarray, source: np.ndarray, shape: np.ndarray, pose: np.ndarray, closed: float = 0.0
    ) -> LipMatch:
        """Find the entry most like some generated lips.

        The deviations of the generated lips, and of their shape, from their means are scaled to those of real lips
        before the search.

        Args:
            patch: the generated lips, float32 [h, w, 3].
            source: the lip patch of the source in the same frame.
            shape: their opening and width by the mouth reader, [2].
            pose: of their frame, see FaceGeometry.pose.
            closed: 0 .. 1, how far they are to be closed, as far as the source shows closed lips.
        """
        wanted = self._real_mean + self._match_gain * (patch - self._generated_mean)
        wanted = wanted + np.float32(self.need) * (self._pca.project(wanted) - wanted)
        query = self._standardised_luma(self._blend_closed(wanted, closed))
        distance = self._distances(query)
        nearest = np.sort(distance)[:5].mean()
        unlike = SHAPE_WEIGHT * self._shape_distances(shape, closed)
        unlike += POSE_WEIGHT * ((self._poses - pose) ** 2).sum(1)
        distance = distance + self.need * nearest * unlike
        if self._last is not None:
            distance += self.need * TRANSITION_WEIGHT * self._transitions[self._last]
            distance[self._last] *= 1 - KEEP_BONUS
        self._last = int(distance.argmin())
        found, entry = self._table[self._last], self._entries[self._last]
        flow = self._flow.calc(_as_image(query), _as_image(found), None)
        flow = cv2.GaussianBlur(flow, (0, 0), FLOW_SIGMA).clip(-MAX_FLOW, MAX_FLOW)
        cells = self._cells + flow * np.float32(1 + self.need * (REPLACED_FLOW - 1))
        error = cv2.GaussianBlur((_warped(found, cells) - query) ** 2, (0, 0), ERROR_SPREAD)
        lit, weight = self._light(_warped(entry.patch, cells), source)
        # Where the entry replaces the generated lips, its detail fits.
        trust = (self.need + (1 - self.need) * np.exp(-error / TOLERANCE)) * weight
        return LipMatch(entry, lit, cells, trust, weight)

    def replace(self, patch: np.ndarray, match: LipMatch, closed: float = 0.0) -> np.ndarray:
        """Generated lips, float32 [h, w, 3], replaced by those of the entry, as far as `need` says.

        Args:
            patch: the generated lips.
            match: the entry that was found for them.
            closed: see match.
        """
        patch = self._blend_closed(patch, closed)
        return patch + np.float32(self.need) * match.weight[..., None] * (match.patch - patch)

    def _light(self, patch: np.ndarray, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """An entry's lips in the light of the frame, told by the skin around them; and see LipMatch.weight."""
        change = source - patch
        odd = np.abs(change - np.median(change[self._ring], 0)).sum(-1)
        is_skin = np.exp(-((odd / SKIN_TOLERANCE) ** 2))
        skin = self._core * self._outside * is_skin
        light = cv2.GaussianBlur(skin[..., None] * change, (0, 0), LIGHT_SIGMA)
        light /= cv2.GaussianBlur(skin, (0, 0), LIGHT_SIGMA).clip(1e-3)[..., None]
        return patch + light, self._core * (1 - self._outside * (1 - is_skin))

    def _distances(self, luma: np.ndarray) -> np.ndarray:
        """Squared differences [N] of standardised luma [h, w] from the entries'."""
        return ((self._table - luma) ** 2).reshape(len(self._table), -1) @ self._window.ravel()

    def _shape_distances(self, shape: np.ndarray, closed: float) -> np.ndarray:
        """Squared differences [N] of the entries' shapes, in standard deviations, from what generated lips ask for."""
        least, largest = self._shape_range
        wanted = np.clip(self._mean_shape + self._shape_gain * (shape - self._generated_shape), least, largest)
        wanted[0] += closed * (least[0] - wanted[0])
        return (((self._shapes - wanted) / self._shape_std) ** 2).sum(1)

    def _blend_closed(self, patch: np.ndarray, closed: float) -> np.ndarray:
        if not closed:
            return patch
        change = self._closed_patch - patch
        change -= np.median(change[self._window > 0.1], 0)  # the light may have been another one
        return patch + np.float32(closed) * change

    def _standardised_luma(self, patch: np.ndarray) -> np.ndarray:
        """Luma [h, w] with zero mean and about unit variance inside the window: independent of the light."""
        luma = np.ascontiguousarray(patch[..., 0])
        weights = self._window / self._window.sum()
        mean = float((luma * weights).sum())
        deviation = float(np.sqrt((weights * (luma - mean) ** 2).sum()))
        return (luma - mean) / (deviation + 4)


class _LipPCA:
    """Mean and principal components of lip patches.

    Args:
        patches: float32 [N, h, w, 3].
        window: weights of the cells, [h, w].
    """

    def __init__(self, patches: np.ndarray, window: np.ndarray):
        self._shape = patches.shape[1:]
        self._weights = np.sqrt(np.broadcast_to(window[..., None], self._shape)).ravel()
        flat = patches.reshape(len(patches), -1)
        self._mean = flat.mean(0)
        centred = flat - self._mean
        left, values, right = np.linalg.svd(centred * self._weights, full_matrices=False)
        count = min(COMPONENTS, int((values > 0.02 * max(values[0], 1e-6)).sum()))
        self._projection = right[:count] * self._weights
        self._components = (left[:, :count] / values[:count]).T @ centred

    def project(self, patch: np.ndarray) -> np.ndarray:
        """The nearest patch that the components can form, of one patch or of each of [..., h, w, 3]."""
        return (self._mean + self._coefficients(patch) @ self._components).reshape(patch.shape)

    def motion(self, patches: np.ndarray) -> float:
        """Root mean square deviation of patches [N, h, w, 3] from their mean along the components, in levels."""
        return float(np.linalg.norm(self._coefficients(patches).std(0)))

    def residual(self, patches: np.ndarray) -> np.ndarray:
        """Root mean square difference [N] of patches [N, h, w, 3] from their projections, in levels."""
        difference = (patches - self.project(patches)).reshape(len(patches), -1)
        return np.sqrt(((difference * self._weights) ** 2).mean(1))

    def _coefficients(self, patch: np.ndarray) -> np.ndarray:
        return (patch.reshape(*patch.shape[:-3], -1) - self._mean) @ self._projection.T


def _window(height: int, width: int) -> np.ndarray:
    """Float32 [h, w]: 1 in the middle of a patch, falling to 0 at the edges."""
    x, y = (np.linspace(-1, 1, size) for size in (width, height))
    return np.clip(1 - np.hypot(x[None] ** 2, y[:, None] ** 2), 0, 1).astype(np.float32)


def _outside_lips(height: int, width: int) -> np.ndarray:
    """Float32 [h, w]: 0 where the lips of a patch are, rising to 1 around them."""
    x = (np.arange(width) + 0.5 - width / 2) / (LIP_WIDTH * width / 2)
    y = (np.arange(height) + 0.5 - PATCH_CENTRE) / (LIP_HEIGHT * height / 2)
    return (1 - np.exp(-((x[None] ** 2 + y[:, None] ** 2) ** 2))).astype(np.float32)


def _warped(image: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """An image [h, w(, c)] sampled at `cells` [h, w, 2]."""
    return cv2.remap(image, cells[..., 0], cells[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _as_image(standardised: np.ndarray) -> np.ndarray:
    """Standardised luma as uint8, for optical flow."""
    return np.clip(128 + 50 * standardised, 0, 255).astype(np.uint8)
