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
from utils.dubbing.lip_detail import LipBank, LipFrame, LipMatch
from utils.dubbing.sample_grid import SampleGrid, grid_of_map, grid_of_pixels
from utils.face.crop_geometry import CropBox, network_size
from utils.face.landmarks import lip_opening
from utils.media.yuv import Colour, planes, rgb_to_yuv_matrix

SKIN_TOLERANCE, LIP_TOLERANCE = 24.0, 8.0
"""Levels (0 .. 255) by which the generated face may differ from the source until the source's detail gives way."""
SKIN_NOISE = 8.0
"""Levels by which the network's errors on the skin may vary until half of its changes there are left out."""
CHIN_TOP, CHIN_HALF_WIDTH, CHIN_EDGE = 56, 22, 8
"""Rows from which on, and columns on both sides of the middle within which, the crop shows the chin; its soft edge."""
BAND_CELLS = (0.7, 1.4, 2.8, 5.6)
"""Bands of resolution: the Gaussians between them, standard deviation in cells of the masks' grid."""
LUMA, CHROMA = (0,), (1, 2)
PLANES = (LUMA, CHROMA)
"""Planes of a frame that are worked on together."""
OFFSETS = {LUMA: np.float32(16), CHROMA: np.float32(128)}
"""Samples of black and of grey: what is added to sums of colours."""
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
        pairs = [(self._yuv(sample.crop), self._yuv(sample.face)) for sample in spoken]
        zones = [geometry.masks(sample.frame, sample.box, mouth_region_size).lips for sample in spoken]
        error = np.mean([crop - face for crop, face in pairs], 0)
        # On the lips the mean error depends on how open the mouth was: there its colour alone counts.
        colour_alone = cv2.GaussianBlur(error, (0, 0), mouth_region_size / 8)
        self._bias = error + (colour_alone - error) * np.mean(zones, 0)[..., None]
        self._certain = self._certainty([crop - face for crop, face in pairs])
        self._kept = self._kept_contrast(pairs, zones)
        self._bank = LipBank([entry for entry in map(self._lip_frame, lips) if entry is not None])
        self._bank.learn(
            np.stack([self._patch(self._soft(crop), made) for (crop, _), made in zip(pairs, spoken, strict=True)]),
            np.stack([self._patch(face + self._bias, made) for (_, face), made in zip(pairs, spoken, strict=True)]),
        )
        self._shot: int | None = None

    def blend(self, made: GeneratedFace, weight: float, closed: float = 0.0) -> np.ndarray:
        """Return a copy of the frame with the generated face in it.

        Args:
            made: the frame and its generated face.
            weight: 0 .. 1, scales the mask (cross-fade to the untouched frame).
            closed: 0 .. 1, how far the lips are to be closed.
        """
        if self._geometry.shot[made.frame] != self._shot:
            self._shot = self._geometry.shot[made.frame]
            self._bank.forget()
        masks = self._geometry.masks(made.frame, made.box, self._size)
        crop, face = self._yuv(made.crop), self._yuv(made.face) + self._bias
        painted = self._patch(face, made)
        lips = self._bank.corrected(painted, closed)
        face += self._from_patch(lips - painted, made) * masks.lips[..., None]
        match = self._bank.match(painted, closed)
        change = (face - crop) * np.maximum(self._certain, masks.lips)[..., None]
        lost = masks.face * weight * self._lost_detail(change, masks)
        change = change * (masks.face[..., None] * weight)
        result = made.yuv.copy()
        here = self._geometry.from_patch(made.frame)
        for group in PLANES:
            samples = [planes(result)[number] for number in group]
            shape, step = samples[0].shape, 1 if group == LUMA else 2
            grid = grid_of_map(masks.face, made.box, step, shape)
            if grid is None:
                continue
            total = _channels(grid.from_crop(_pick(change, group)))
            inner = grid_of_map(lost > MIN_WEIGHT, made.box, step, shape)
            if inner is not None:
                own = np.stack([plane[inner.rows, inner.columns] for plane in samples], -1)
                seen = inner.from_crop(np.dstack([_pick(crop, group) + OFFSETS[group], lost]))
                other = self._bent_detail(match, inner, here, group)
                total[grid.inside(inner)] += seen[..., -1:] * (other - (own - seen[..., :-1]))
            for channel, plane in enumerate(samples):
                part = plane[grid.rows, grid.columns]
                np.copyto(part, np.rint(np.clip(part + total[..., channel], 0, 255)), casting="unsafe")
        return result

    def _yuv(self, picture: np.ndarray) -> np.ndarray:
        """RGB [h, w, 3] as YUV, float32, without the offsets of Y, U and V."""
        return cv2.transform(picture.astype(np.float32), self._to_yuv)

    def _lost_detail(self, change: np.ndarray, masks: FaceMasks) -> np.ndarray:
        """Fraction of the source's detail [h, w] that does not belong to the generated face."""
        cells = 2 * round(self._size / MASK_SIZE * 1.5) + 1
        difference = cv2.blur(np.abs(change).sum(-1), (cells, cells))
        tolerance = SKIN_TOLERANCE + (LIP_TOLERANCE - SKIN_TOLERANCE) * masks.lips
        return 1 - np.exp(-((difference / tolerance) ** 2))

    def _certainty(self, errors: list[np.ndarray]) -> np.ndarray:
        """How far changes of the skin [h, w] can be believed: speech hardly changes cheeks, but bad paint varies.

        The chin moves with speech; left as it is, it would go on speaking the source's words.
        """
        deviation = cv2.GaussianBlur(np.std(errors, 0), (0, 0), self._size / MASK_SIZE).sum(-1)
        certain = SKIN_NOISE**2 / (SKIN_NOISE**2 + deviation**2)
        height, width = deviation.shape
        x, y = ((np.arange(size) + 0.5) * MASK_SIZE / self._size for size in (width, height))
        edge_x, edge_y = CHIN_HALF_WIDTH - np.abs(x - x.mean()), y - CHIN_TOP
        chin = np.clip(edge_x / CHIN_EDGE, 0, 1) * np.clip(edge_y / CHIN_EDGE, 0, 1)[:, None]
        return np.maximum(certain, chin).astype(np.float32)

    def _kept_contrast(self, pairs: list[tuple[np.ndarray, np.ndarray]], zones: list[np.ndarray]) -> list[float]:
        """How much of the lips' contrast the network paints, as a fraction of the source's, by band, finest first."""
        energies = np.zeros((2, len(BAND_CELLS)))
        for pair, zone in zip(pairs, zones, strict=True):
            for row, picture in enumerate(pair):
                energies[row] += [(zone * band**2).sum() for band in self._bands(picture[..., 0])[:-1]]
        source, painted = energies
        return [float(min(1.0, kept)) for kept in np.sqrt(painted / np.maximum(source, 1e-9))]

    def _bands(self, picture: np.ndarray) -> list[np.ndarray]:
        """Split [h, w(, c)] by resolution: bands from fine to coarse, then the rest; their sum is the picture."""
        bands, rest = [], picture
        for cells in BAND_CELLS:
            soft = cv2.GaussianBlur(picture, (0, 0), cells * self._size / MASK_SIZE)
            bands.append(rest - soft)
            rest = soft
        return [*bands, rest]

    def _soft(self, picture: np.ndarray) -> np.ndarray:
        """A picture [h, w, c] as soft as the network would paint it."""
        *bands, rest = self._bands(picture)
        return rest + sum(kept * band for kept, band in zip(self._kept, bands, strict=True))

    def _lip_frame(self, sample: GeneratedFace) -> LipFrame | None:
        """An entry of the bank; None where the lips lie outside the picture."""
        from_patch = self._geometry.from_patch(sample.frame)
        corners = from_patch @ np.array([[0, PATCH_WIDTH, 0, PATCH_WIDTH], [0, 0, PATCH_HEIGHT, PATCH_HEIGHT], [1] * 4])
        soft = self._soft(self._yuv(sample.crop))
        details, origins = [], []
        scale = sample.crop.shape[1] / sample.box.width
        for group in PLANES:
            samples = [planes(sample.yuv)[number] for number in group]
            step = 1 if group == LUMA else 2
            grid = grid_of_pixels(corners.min(1), corners.max(1), sample.box, step, samples[0].shape, scale)
            if grid is None:
                return None
            own = np.stack([plane[grid.rows, grid.columns] for plane in samples], -1)
            details.append(own - _channels(grid.from_crop(_pick(soft, group) + OFFSETS[group])))
            origins.append((grid.columns.start, grid.rows.start))
        opening = float(lip_opening(self._geometry.points[sample.frame]))
        return LipFrame(opening, self._patch(soft, sample), details, origins, from_patch)

    def _patch(self, picture: np.ndarray, made: GeneratedFace) -> np.ndarray:
        """The lips of `picture`, [h, w, 3] of the network's crop, as a lip patch."""
        if self._size != MASK_SIZE:
            height, width = network_size(MASK_SIZE)
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        matrix, size = self._patch_to_crop(made, picture.shape[1]), (PATCH_WIDTH, PATCH_HEIGHT)
        return cv2.warpAffine(picture, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)

    def _from_patch(self, patch: np.ndarray, made: GeneratedFace) -> np.ndarray:
        """The inverse of _patch: [h, w, 3] of the network's crop, 0 outside the patch."""
        height, width = network_size(self._size)
        return cv2.warpAffine(patch, self._patch_to_crop(made, width), (width, height), flags=cv2.INTER_LINEAR)

    def _patch_to_crop(self, made: GeneratedFace, width: int) -> np.ndarray:
        """Affine matrix from cells of the lip patch to pixels of the crop, made `width` pixels wide."""
        matrix = self._geometry.from_patch(made.frame)
        matrix[:, 2] += 0.5 - np.array([made.box.left, made.box.top])
        matrix *= width / made.box.width
        matrix[:, 2] -= 0.5
        return matrix

    def _bent_detail(
        self, match: LipMatch, grid: SampleGrid, from_patch: np.ndarray, group: tuple[int, ...]
    ) -> np.ndarray:
        """Detail of the bank's lips [h, w, channels], bent to the generated ones, on the samples of `grid`."""
        entry, number = match.entry, PLANES.index(group)
        pixels = match.cells @ entry.from_patch[:, :2].T + entry.from_patch[:, 2]
        samples = (pixels - (grid.step - 1) / 2) / grid.step - entry.origins[number]
        where = grid.from_patch(np.dstack([samples, match.trust]).astype(np.float32), from_patch)
        x, y, trust = (np.ascontiguousarray(where[..., channel]) for channel in range(3))
        detail = cv2.remap(entry.details[number], x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
        return _channels(detail) * trust[..., None]


def _pick(picture: np.ndarray, group: tuple[int, ...]) -> np.ndarray:
    """Channels of `group` of a picture [h, w, 3]."""
    return np.ascontiguousarray(picture[..., list(group)])


def _channels(picture: np.ndarray) -> np.ndarray:
    """[h, w, channels] also where OpenCV leaves a single channel out."""
    return picture if picture.ndim == 3 else picture[..., None]
