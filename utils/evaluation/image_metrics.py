"""How near a picture is to the true one, how sharp it is, and how much a video flickers."""

from collections import deque
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import cv2
import numpy as np

_WINDOW, _SIGMA = 11, 1.5
_LUMINANCE, _CONTRAST = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SMALLEST_PICTURE = (_WINDOW - 1) * 2 ** (len(_SCALE_WEIGHTS) - 1) + 1
"""Least height and width in pixels that MS-SSIM is defined for."""


@dataclass(frozen=True)
class PictureScores:
    """One picture against the true one, both 0 .. 255.

    `psnr` dB (inf where they are equal), `ssim` and `ms_ssim` 1 where equal, `l1` mean absolute difference in levels.
    """

    psnr: float
    ssim: float
    ms_ssim: float
    l1: float


Region = tuple[slice, slice]
"""Rows and columns of a picture."""
WHOLE: tuple[Region] = ((slice(None), slice(None)),)


def compare(true: np.ndarray, other: np.ndarray, regions: Sequence[Region] = WHOLE) -> list[PictureScores]:
    """Compare two pictures, uint8 RGB [h, w, 3], in each of some regions, as if these had been cut out.

    Args:
        true: the true picture.
        other: the one to score.
        regions: their bounds are multiples of 16 or those of the picture, their sizes SMALLEST_PICTURE or more.

    Returns:
        PictureScores for each region.
    """
    structure = structural_similarity(true, other, regions)
    scores = []
    for region, (ssim, ms_ssim) in zip(regions, structure, strict=True):
        one, two = np.ascontiguousarray(true[region]), np.ascontiguousarray(other[region])
        l1 = cv2.norm(one, two, cv2.NORM_L1) / one.size
        scores.append(PictureScores(cv2.PSNR(one, two) if l1 else np.inf, ssim, ms_ssim, l1))
    return scores


def structural_similarity(
    true: np.ndarray, other: np.ndarray, regions: Sequence[Region] = WHOLE
) -> list[tuple[float, float]]:
    """SSIM and MS-SSIM of regions of two pictures, uint8 RGB [h, w, 3]: the mean over the channels.

    SSIM: Wang et al. 2004, Gaussian windows of 11 pixels, sigma 1.5, without padding, K 0.01 and 0.03; MS-SSIM: Wang
    et al. 2003, five scales, contrasts below 0 counting as 0. The values are those of scikit-image (gaussian_weights)
    and of torchmetrics (tests see to it), but with OpenCV's filters, a first scale that serves both and maps that
    serve all regions they need a tenth of the time, without which video could not be scored as fast as it plays.
    """
    if np.array_equal(true, other):
        return [(1.0, 1.0)] * len(regions)
    x, y = true.astype(np.float32), other.astype(np.float32)
    bounds = [[part.indices(size)[:2] for part, size in zip(region, true.shape, strict=False)] for region in regions]
    ssim, products = [], [1.0] * len(regions)
    for scale, weight in enumerate(_SCALE_WEIGHTS):
        if scale:
            x, y = _halved(x), _halved(y)
        maps = _similarity(x, y)
        for number, ((top, bottom), (left, right)) in enumerate(bounds):
            # Windows inside the region: the first is centred half a window from its edge, as the map's first is.
            inside = (
                slice(top >> scale, (bottom >> scale) - _WINDOW + 1),
                slice(left >> scale, (right >> scale) - _WINDOW + 1),
            )
            similarity, contrast = (float(np.mean(each[inside])) for each in maps)
            if not scale:
                ssim.append(similarity)
            last = scale == len(_SCALE_WEIGHTS) - 1
            products[number] *= max(similarity if last else contrast, 0.0) ** weight
    return list(zip(ssim, products, strict=True))


def _similarity(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SSIM, and its contrast and structure part alone, of all windows inside float32 [h, w, 3]."""
    mean_x, mean_y = _windowed(x), _windowed(y)
    product = mean_x * mean_y
    squares = mean_x * mean_x + mean_y * mean_y
    variances = _windowed(x * x + y * y) - squares
    covariance = _windowed(x * y) - product
    contrast = (2 * covariance + _CONTRAST) / (variances + _CONTRAST)
    return (2 * product + _LUMINANCE) / (squares + _LUMINANCE) * contrast, contrast


def _windowed(picture: np.ndarray) -> np.ndarray:
    """Weighted means of all windows that lie inside."""
    edge = _WINDOW // 2
    return cv2.GaussianBlur(picture, (_WINDOW, _WINDOW), _SIGMA)[edge:-edge, edge:-edge]


def _halved(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[0] // 2, picture.shape[1] // 2
    return cv2.resize(picture[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)


def sharpness(picture: np.ndarray) -> float:
    """Variance of the Laplacian of the brightness of uint8 RGB [h, w, 3]; higher is sharper, noise counts as sharp."""
    return float(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())


class Flicker:
    """What changes from frame to frame and back: mean |2 now - before - after| / 2 of all pixels, in levels (0 .. 255).

    Steady motion hardly counts. Independent noise of standard deviation s gives s * sqrt(3 / pi).
    """

    def __init__(self):
        self._pictures: deque[np.ndarray] = deque(maxlen=3)
        self.values: list[float] = []

    def add(self, picture: np.ndarray | None) -> None:
        """Take the next frame, uint8 [h, w, 3], or None where there is a gap or a cut."""
        if picture is None:
            self._pictures.clear()
            return
        self._pictures.append(picture.astype(np.int16))
        if len(self._pictures) == 3:
            before, now, after = self._pictures
            self.values.append(float(np.abs(2 * now - before - after).mean()) / 2)


def mean_scores(scores: list[PictureScores]) -> PictureScores:
    """Mean over frames. Equal frames have no finite PSNR and are left out of its mean, unless all are equal."""
    if not scores:
        return PictureScores(*[float("nan")] * 4)
    table = np.array([astuple(score) for score in scores])
    finite = table[np.isfinite(table[:, 0]), 0]
    return PictureScores(
        float(finite.mean()) if len(finite) else np.inf, *(float(v) for v in table[:, 1:].mean(axis=0))
    )
