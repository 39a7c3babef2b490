"""Samples of one plane of a frame, and maps of the network's crop or of a lip patch brought to them."""

from dataclasses import dataclass

import cv2
import numpy as np

from utils.face.crop_geometry import CropBox

_FRINGE = 2
"""Cells beyond a map's last value above 0 that its cubic enlargement reaches."""


@dataclass(frozen=True)
class SampleGrid:
    """A rectangle of a plane's samples.

    Args:
        rows: of the plane.
        columns: of the plane.
        step: pixels of the frame per sample: 1 for luma, 2 for chroma.
        box: where the network's crop lies in the frame.
        scale: cells of the network's crop per pixel of the frame.
    """

    rows: slice
    columns: slice
    step: int
    box: CropBox
    scale: float

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in samples."""
        return self.columns.stop - self.columns.start, self.rows.stop - self.rows.start

    @property
    def _first_pixel(self) -> np.ndarray:
        """Where the first sample lies, (x, y) in pixels: sample i covers the pixels from step * i on."""
        return np.array([self.columns.start, self.rows.start]) * self.step + (self.step - 1) / 2

    def inside(self, other: "SampleGrid") -> tuple[slice, slice]:
        """Where the samples of `other`, a part of this grid, lie in an array of this grid's samples."""
        top, left = other.rows.start - self.rows.start, other.columns.start - self.columns.start
        width, height = other.size
        return slice(top, top + height), slice(left, left + width)

    def from_crop(self, values: np.ndarray) -> np.ndarray:
        """A map, float32 [h, w(, c)] of the network's crop, at these samples."""
        # Pixel x of the frame lies at (x - left + 0.5) * scale - 0.5 of the crop.
        first = (self._first_pixel - (self.box.left, self.box.top) + 0.5) * self.scale - 0.5
        return self._warp(values, np.eye(2) * self.scale * self.step, first, cv2.INTER_CUBIC)

    def from_patch(self, values: np.ndarray, from_patch: np.ndarray) -> np.ndarray:
        """A map, float32 [h, w(, c)] of a lip patch, at these samples; see FaceGeometry.from_patch."""
        inverse = cv2.invertAffineTransform(from_patch)
        first = inverse @ [*self._first_pixel, 1]
        return self._warp(values, inverse[:, :2] * self.step, first, cv2.INTER_LINEAR)

    def _warp(self, values: np.ndarray, turn: np.ndarray, first: np.ndarray, interpolation: int) -> np.ndarray:
        flags = interpolation | cv2.WARP_INVERSE_MAP
        matrix = np.column_stack([turn, first])
        return cv2.warpAffine(values, matrix, self.size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def grid_of_map(values: np.ndarray, box: CropBox, step: int, shape: tuple[int, int]) -> SampleGrid | None:
    """The samples that the enlargement of a map reaches; None where it is 0 everywhere or outside the frame.

    Args:
        values: [h, w] of the network's crop.
        box: where the crop lies in the frame.
        step: 1 for luma, 2 for chroma.
        shape: (rows, columns) of the plane.
    """
    rows, columns = np.flatnonzero(values.any(1)), np.flatnonzero(values.any(0))
    if len(rows) == 0:
        return None
    scale = values.shape[1] / box.width
    corner = np.array([box.left, box.top])
    low = (np.array([columns[0], rows[0]]) - _FRINGE) / scale + corner
    high = (np.array([columns[-1], rows[-1]]) + 1 + _FRINGE) / scale + corner
    return grid_of_pixels(low, high, box, step, shape, scale)


def grid_of_pixels(
    low: np.ndarray, high: np.ndarray, box: CropBox, step: int, shape: tuple[int, int], scale: float
) -> SampleGrid | None:
    """The samples between two corners (x, y), in pixels of the frame; None if all are outside."""
    left, top = (int(value) for value in np.maximum(np.floor(low / step), 0))
    right, bottom = (int(value) for value in np.minimum(np.ceil(high / step), shape[::-1]))
    if left >= right or top >= bottom:
        return None
    return SampleGrid(slice(top, bottom), slice(left, right), step, box, scale)
