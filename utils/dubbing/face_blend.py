"""Blending by landmarks: only the lower face changes, the skin keeps its detail, the lips get that of the same person.

With S the source crop, low(S) what the network sees of it, and G the generated face (both at the network's size), the
result is S + G - low(S), enlarged, inside the mask of the lower face. So the skin keeps everything that the network
cannot paint, and where G says nothing new nothing changes. Where G differs from S, mostly on the lips, S's detail
belongs to another moment: there it gives way to that of the frame of the source whose lips are most like G's
(lip_detail.py).

All sums are made on the frame's own YUV samples: those outside the mask keep their exact value.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from utils.dubbing.face_geometry import MASK_SIZE, PATCH_HEIGHT, PATCH_WIDTH, FaceGeometry, FaceMasks
from utils.dubbing.lip_detail import LipBank, LipFrame
from utils.face.crop_geometry import CropBox, network_size
from utils.media.yuv import Colour, planes, rgb_to_yuv_matrix

SKIN_TOLERANCE, LIP_TOLERANCE = 24.0, 7.0
"""Levels (0 .. 255) by which the generated face may differ from the source until the source's detail gives way."""
BAND_CELLS = (0.7, 1.4, 2.8, 5.6)
"""Bands of resolution: the Gaussians between them, standard deviation in cells of the masks' grid."""
MIN_WEIGHT = 0.02
"""Detail with less weight than this is left as it is."""


@dataclass(frozen=True)
class GeneratedFace:
    """A frame of the source with its generated face.

    `yuv` uint8 [H * 3 // 2, W]; `crop` and `face` uint8 RGB [h, w, 3] at the network's size: what it saw, unmasked, and
    what it made of it, None where it was not asked.
    """

    frame: int
    yuv: np.ndarray
    box: CropBox
    crop: np.ndarray
    face: np.ndarray | None = None


class FaceBlender:
    """Puts the generated faces of one video into its frames, in the order of the result.

    Args:
        geometry: masks and lip patches of the video.
        mouth_region_size: m of the network in pixels.
        colour: how the video's YUV is to be understood.
        lips: frames of the source for the bank of lips; their generated faces do not count.
        spoken: some frames with faces generated from speech of any moment, to learn from them what the network always
            gets wrong of this person.
    """

    def __init__(
        self,
        geometry: FaceGeometry,
        mouth_region_size: int,
        colour: Colour,
        lips: Sequence[GeneratedFace],
        spoken: Sequence[GeneratedFace],
    ):
        self._geometry = geometry
        self._size = mouth_region_size
        self._to_yuv = rgb_to_yuv_matrix(colour)
        zones = [geometry.masks(sample.frame, sample.box, mouth_region_size).lips for sample in spoken]
        errors = [sample.crop.astype(np.float32) - sample.face for sample in spoken]
        self._bias = self._mean_error(np.mean(errors, 0), np.mean(zones, 0))
        self._kept = self._kept_bands(spoken, zones)
        self._bank = LipBank([entry for entry in map(self._lip_frame, lips) if entry is not None])
        self._shot: int | None = None

    def blend(self, made: GeneratedFace, weight: float) -> np.ndarray:
        """Return a copy of the frame with the generated face in it.

        Args:
            made: the frame and its generated face.
            weight: 0 .. 1, scales the mask (cross-fade to the untouched frame).
        """
        if self._geometry.shot[made.frame] != self._shot:
            self._shot = self._geometry.shot[made.frame]
            self._bank.forget()
        masks = self._geometry.masks(made.frame, made.box, self._size)
        face = masks.face * weight
        change = made.face.astype(np.float32) - made.crop + self._bias
        gone = face * self._lost_detail(change, masks)
        result = made.yuv.copy()
        add = (change * face[..., None]) @ self._to_yuv.T
        lips, flow, trust = self._look_up(made)
        low = made.crop.astype(np.float32) @ self._to_yuv.T
        for number, plane in enumerate(planes(result)):
            step = 1 if number == 0 else 2
            grid = _Grid.over(face, made.box, step, plane.shape)
            if grid is None:
                continue
            total = grid.enlarged(add[..., number])
            inner = _Grid.over(gone > MIN_WEIGHT, made.box, step, plane.shape)
            part = plane[grid.rows, grid.columns]
            if inner is not None:
                own = plane[inner.rows, inner.columns] - inner.enlarged(_with_offset(low[..., number], number))
                lost = inner.enlarged(gone)
                other = self._bank_detail(inner, made.frame, lips, flow, number, step)
                trusted = inner.from_patch(trust, self._geometry.from_patch(made.frame), step)
                view = total[grid.inside(inner)]
                view += lost * (other * trusted - own)
            np.copyto(part, np.rint(np.clip(part + total, 0, 255)), casting="unsafe")
        return result

    def _lost_detail(self, change: np.ndarray, masks: FaceMasks) -> np.ndarray:
        """Share of the source's detail [h, w] that does not belong to the generated face."""
        cells = 2 * round(self._size / MASK_SIZE * 1.5) + 1
        difference = cv2.blur(np.abs(change).mean(-1), (cells, cells))
        tolerance = SKIN_TOLERANCE + (LIP_TOLERANCE - SKIN_TOLERANCE) * masks.lips
        return 1 - np.exp(-((difference / tolerance) ** 2))

    def _kept_bands(self, samples: list[GeneratedFace], lips: list[np.ndarray]) -> list[float]:
        """How much of the lips' contrast the network keeps, as a share of the source's, by band, finest first."""
        energies = np.zeros((2, len(BAND_CELLS)))
        for sample, mask in zip(samples, lips, strict=True):
            for row, picture in enumerate((sample.face, sample.crop)):
                bands = self._bands(picture.astype(np.float32) @ self._to_yuv[0])[:-1]
                energies[row] += [(mask * band**2).sum() for band in bands]
        return [float(min(1.0, share)) for share in np.sqrt(energies[0] / np.maximum(energies[1], 1e-9))]

    def _bands(self, picture: np.ndarray) -> list[np.ndarray]:
        """Split [h, w(, c)] by resolution: bands from fine to coarse, then the rest; their sum is the picture."""
        bands, rest = [], picture
        for cells in BAND_CELLS:
            soft = cv2.GaussianBlur(picture, (0, 0), cells * self._size / MASK_SIZE)
            bands.append(rest - soft)
            rest = soft
        return [*bands, rest]

    def _softened(self, picture: np.ndarray) -> np.ndarray:
        """A picture [h, w(, c)] as soft as the network would paint it."""
        *bands, rest = self._bands(picture)
        return rest + sum(share * band for share, band in zip(self._kept, bands, strict=True))

    def _mean_error(self, error: np.ndarray, lips: np.ndarray) -> np.ndarray:
        """What the network always gets wrong [h, w, 3]: as it is on the skin, its colour alone on the lips."""
        sigma = self._size / 8
        soft = cv2.GaussianBlur(error, (0, 0), sigma)
        return error + (soft - error) * np.clip(lips, 0, 1)[..., None]

    def _lip_frame(self, sample: GeneratedFace) -> LipFrame | None:
        """An entry of the bank; None where the lips lie outside the picture."""
        from_patch = self._geometry.from_patch(sample.frame)
        corners = from_patch @ np.array([[0, PATCH_WIDTH, 0, PATCH_WIDTH], [0, 0, PATCH_HEIGHT, PATCH_HEIGHT], [1] * 4])
        low = self._softened(sample.crop.astype(np.float32)) @ self._to_yuv.T
        details, origins = [], []
        scale = sample.crop.shape[1] / sample.box.width
        for number, plane in enumerate(planes(sample.yuv)):
            step = 1 if number == 0 else 2
            grid = _Grid.between(corners.min(1) / step, corners.max(1) / step, sample.box, step, plane.shape, scale)
            if grid is None:
                return None
            soft = grid.enlarged(_with_offset(low[..., number], number))
            details.append(plane[grid.rows, grid.columns] - soft)
            origins.append((grid.columns.start, grid.rows.start))
        return LipFrame(self._patch(sample.crop, sample), details, origins, from_patch)

    def _patch(self, picture: np.ndarray, made: GeneratedFace) -> np.ndarray:
        """Brightness of the lips of `picture`, the size of the network's, as a lip patch."""
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
        if self._size != MASK_SIZE:
            height, width = network_size(MASK_SIZE)
            grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
        cell = made.box.width / grey.shape[1]
        matrix = self._geometry.from_patch(made.frame)
        matrix[:, 2] += 0.5 - np.array([made.box.left, made.box.top])
        matrix /= cell
        matrix[:, 2] -= 0.5
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(grey, matrix, (PATCH_WIDTH, PATCH_HEIGHT), flags=flags, borderMode=cv2.BORDER_REPLICATE)

    def _look_up(self, made: GeneratedFace) -> tuple[LipFrame, np.ndarray, np.ndarray]:
        face = np.clip(made.face + self._bias, 0, 255).astype(np.uint8)
        return self._bank.nearest(self._patch(face, made))

    def _bank_detail(
        self, grid: "_Grid", frame: int, lips: LipFrame, flow: np.ndarray, number: int, step: int
    ) -> np.ndarray:
        """Detail of the bank's lips, bent to the generated ones, on the samples of `grid`."""
        cells = np.stack(np.meshgrid(np.arange(PATCH_WIDTH), np.arange(PATCH_HEIGHT)), -1) + flow
        source = cells @ lips.from_patch[:, :2].T + lips.from_patch[:, 2]
        where = (source - (step - 1) / 2) / step - lips.origins[number]
        where = grid.from_patch(where.astype(np.float32), self._geometry.from_patch(frame), step, border=-9.0)
        return cv2.remap(
            lips.details[number], where[..., 0], where[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT
        )


@dataclass(frozen=True)
class _Grid:
    """Samples of a plane (rows, columns), and where they lie in the network's crop: x * scale + offset."""

    rows: slice
    columns: slice
    scale: float
    offset: tuple[float, float]

    @staticmethod
    def over(weights: np.ndarray, box: CropBox, step: int, shape: tuple[int, int]) -> "_Grid | None":
        """Samples that an enlarged map [h, w] reaches; None where it is 0 or outside the picture."""
        rows, columns = np.flatnonzero(weights.any(1)), np.flatnonzero(weights.any(0))
        if len(rows) == 0:
            return None
        scale = weights.shape[1] / box.width
        start = np.array([box.left, box.top])
        low = (np.array([columns[0], rows[0]]) - 2) / scale + start
        high = (np.array([columns[-1], rows[-1]]) + 3) / scale + start
        return _Grid.between(low / step, high / step, box, step, shape, scale)

    @staticmethod
    def between(low, high, box: CropBox, step: int, shape: tuple[int, int], scale: float):
        left, top = np.maximum(np.floor(low).astype(int), 0)
        right, bottom = np.minimum(np.ceil(high).astype(int), shape[::-1])
        if left >= right or top >= bottom:
            return None
        # Sample i of a plane lies at pixel step * i + (step - 1) / 2; pixel x at (x + 0.5) * scale - 0.5 of the crop.
        offset = tuple((np.array([left, top]) * step + step / 2 - (box.left, box.top)) * scale - 0.5)
        return _Grid(slice(top, bottom), slice(left, right), scale * step, offset)

    @property
    def _size(self) -> tuple[int, int]:
        return self.columns.stop - self.columns.start, self.rows.stop - self.rows.start

    def inside(self, other: "_Grid") -> tuple[slice, slice]:
        """Where the samples of `other`, a part of this one, lie in an array of these samples."""
        top, left = other.rows.start - self.rows.start, other.columns.start - self.columns.start
        width, height = other._size
        return slice(top, top + height), slice(left, left + width)

    def enlarged(self, values: np.ndarray) -> np.ndarray:
        """A map [h, w] of the network's crop at these samples, float32."""
        matrix = np.array([[self.scale, 0, self.offset[0]], [0, self.scale, self.offset[1]]])
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(
            values.astype(np.float32), matrix, self._size, flags=flags, borderMode=cv2.BORDER_REPLICATE
        )

    def from_patch(self, values: np.ndarray, from_patch: np.ndarray, step: int, border: float = 0.0) -> np.ndarray:
        """A map of the lip patch at these samples, float32; `border` outside."""
        inverse = cv2.invertAffineTransform(from_patch)
        first = inverse @ [
            self.columns.start * step + (step - 1) / 2,
            self.rows.start * step + (step - 1) / 2,
            1,
        ]
        matrix = np.column_stack([inverse[:, :2] * step, first])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(
            values, matrix, self._size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=(border,) * 4
        )


def _with_offset(values: np.ndarray, number: int) -> np.ndarray:
    """Samples of plane `number` from the product of RGB and the matrix."""
    return values + (16 if number == 0 else 128)
