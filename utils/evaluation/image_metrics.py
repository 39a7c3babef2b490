"""Image metrics: PSNR, SSIM, MS-SSIM, L1, sharpness, and the flicker of a video."""

from collections import deque
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import cv2
import numpy as np

_WINDOW, _SIGMA = 11, 1.5
_LUMINANCE, _CONTRAST = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MIN_IMAGE_SIDE = (_WINDOW - 1) * 2 ** (len(_SCALE_WEIGHTS) - 1) + 1
"""Smallest height and width in pixels that MS-SSIM is defined for."""


@dataclass(frozen=True)
class ImageScores:
    """One image against the true one, both 0 .. 255.

    `psnr` in dB (inf for equal images), `ssim` and `ms_ssim` (1 for equal images), `l1` mean absolute difference.
    """

    psnr: float
    ssim: float
    ms_ssim: float
    l1: float


Region = tuple[slice, slice]
"""Rows and columns of an image."""
WHOLE_IMAGE: tuple[Region] = ((slice(None), slice(None)),)


def compare(true: np.ndarray, other: np.ndarray, regions: Sequence[Region] = WHOLE_IMAGE) -> list[ImageScores]:
    """Compare two images, uint8 RGB [h, w, 3], in each of some regions, as if these had been cut out.

    Args:
        true: the true image.
        other: the image to score.
        regions: their bounds are multiples of 16 or those of the image, their sizes MIN_IMAGE_SIDE or more.

    Returns:
        ImageScores for each region.
    """
    structure = structural_similarity(true, other, regions)
    scores = []
    for region, (ssim, ms_ssim) in zip(regions, structure, strict=True):
        one, two = np.ascontiguousarray(true[region]), np.ascontiguousarray(other[region])
        l1 = cv2.norm(one, two, cv2.NORM_L1) / one.size
        scores.append(ImageScores(cv2.PSNR(one, two) if l1 else np.inf, ssim, ms_ssim, l1))
    return scores


def structural_similarity(
    true: np.ndarray, other: np.ndarray, regions: Sequence[Region] = WHOLE_IMAGE
) -> list[tuple[float, float]]:
    """SSIM and MS-SSIM of regions of two images, uint8 RGB [h, w, 3]: the mean over the channels.

    SSIM: Wang et al. 2004, Gaussian windows of 11 pixels, sigma 1.5, without padding, K 0.01 and 0.03; MS-SSIM: Wang
    et al. 2003, five scales, contrasts below 0 counting as 0. The values are those of scikit-image (gaussian_weights)
    and of torchmetrics (tested), at a tenth of their time: OpenCV's filters, one first scale for both metrics, and maps
    that serve all regions.
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
    # In place, because fresh arrays of this size cost as much as the arithmetic: the system has to map their pages.
    mean_x, mean_y = _windowed(x), _windowed(y)
    product = mean_x * mean_y
    squares = _sum_of_squares(mean_x, mean_y, mean_x, mean_y)
    values = np.empty_like(x)
    variances = _windowed(_sum_of_squares(x, y, values, np.empty_like(x)))
    variances -= squares
    contrast = _windowed(np.multiply(x, y, out=values))
    contrast -= product
    for offset, numerator, denominator in ((_CONTRAST, contrast, variances), (_LUMINANCE, product, squares)):
        numerator *= 2
        numerator += offset
        denominator += offset
        numerator /= denominator
    product *= contrast
    return product, contrast


def _sum_of_squares(x: np.ndarray, y: np.ndarray, result: np.ndarray, spare: np.ndarray) -> np.ndarray:
    """x * x + y * y, written to `result`; `spare` is overwritten."""
    np.multiply(x, x, out=result)
    np.multiply(y, y, out=spare)
    result += spare
    return result


def _windowed(image: np.ndarray) -> np.ndarray:
    """Weighted means of all windows that lie inside."""
    edge = _WINDOW // 2
    return cv2.GaussianBlur(image, (_WINDOW, _WINDOW), _SIGMA)[edge:-edge, edge:-edge]


def _halved(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[0] // 2, image.shape[1] // 2
    return cv2.resize(image[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)


def sharpness(image: np.ndarray) -> float:
    """Variance of the Laplacian of the luminance of uint8 RGB [h, w, 3]. Higher is sharper; noise counts as sharp."""
    return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())


class Flicker:
    """Flicker of a video: mean over pixels of |2 now - before - after| / 2, in levels (0 .. 255), per frame.

    Steady motion contributes little. Independent noise of standard deviation s results in s * sqrt(3 / pi).
    """

    def __init__(self):
        self._images: deque[np.ndarray] = deque(maxlen=3)
        self.values: list[float] = []

    def add(self, image: np.ndarray | None) -> None:
        """Take the next frame, uint8 [h, w, 3], or None where there is a gap or a cut."""
        if image is None:
            self._images.clear()
            return
        self._images.append(image.astype(np.int16))
        if len(self._images) == 3:
            before, now, after = self._images
            change = 2 * now
            change -= before
            change -= after
            self.values.append(float(np.abs(change, out=change).mean()) / 2)


def mean_scores(scores: list[ImageScores]) -> ImageScores:
    """Mean over frames. Frames equal to the true ones (infinite PSNR) are left out of its mean, unless all are."""
    if not scores:
        return ImageScores(*[float("nan")] * 4)
    table = np.array([astuple(score) for score in scores])
    finite = table[np.isfinite(table[:, 0]), 0]
    return ImageScores(float(finite.mean()) if len(finite) else np.inf, *(float(v) for v in table[:, 1:].mean(axis=0)))
