"""Blending by landmarks (`--blend face`): only the lower face changes, and it keeps the source's detail.

With S the source crop, low(S) what the network sees of it, and G the generated face (both at the network's size), the
result is S + G - low(S), enlarged, inside the mask of the lower face. So the skin keeps the high frequencies that the
network cannot generate, and where G equals low(S) nothing changes. Where G differs from S, mostly on the lips, the
detail of S does not fit: it is replaced by that of the source frame whose lips are most like G's (lip_detail.py).
Where the lips of G are poor altogether, own_lips.py shows the source's instead.

All sums are made on the frame's own YUV samples: those outside the mask keep their exact value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from utils.dubbing.face_geometry import MASK_SIZE, PATCH_HEIGHT, PATCH_WIDTH, FaceGeometry, FaceMasks
from utils.dubbing.lip_detail import LipBank, LipFrame, LipMatch
from utils.dubbing.lip_quality import are_lips_poor
from utils.dubbing.sample_grid import SampleGrid, grid_of_map, grid_of_pixels
from utils.face.crop_geometry import CropBox, network_size
from utils.face.landmarks import lip_opening
from utils.media.yuv import Colour, planes, rgb_to_yuv_matrix

SKIN_TOLERANCE, LIP_TOLERANCE = 24.0, 8.0
"""Difference of the generated face from the source, in levels, at which 1/e of the source's detail is left."""
SKIN_NOISE = 8.0
"""Standard deviation of the network's errors on the skin, in levels, at which half of its changes are left out."""
SKIN_REACH, LIP_REACH = 1.5, 4.5
"""Over how many cells of the masks' grid, to each side, differences are averaged: lips that have moved agree with
the source's at some points, and its detail does not fit there."""
CHANGE_LIMIT = 20.0
"""Largest change outside the mouth in levels, summed over Y, U and V. Larger ones are seldom due to speech, most often
they are background beside the jaw."""
BAND_SIGMAS = (0.7, 1.4, 2.8, 5.6)
"""Standard deviations of the Gaussians that separate the frequency bands, in cells of the masks' grid."""
LUMA, CHROMA = (0,), (1, 2)
PLANES = (LUMA, CHROMA)
"""Planes of a frame that are processed together."""
OFFSETS = {LUMA: np.float32(16), CHROMA: np.float32(128)}
"""Samples of black and of grey: added to differences of colours to make samples."""
MIN_WEIGHT = 0.02
"""Detail whose weight is below this is not replaced."""


@dataclass(frozen=True)
class GeneratedFace:
    """A frame of the source with its generated face.

    Attributes:
        frame: number in the source.
        yuv: the frame, uint8 [H * 3 // 2, W].
        box: where the crop lies in the frame.
        crop: what the network saw, unmasked, uint8 RGB [h, w, 3] at the network's size.
        face: what it generated, likewise; None where it was not run.
        lips: opening and width of its lips by the mouth reader, [2]; likewise.
    """

    frame: int
    yuv: np.ndarray
    box: CropBox
    crop: np.ndarray
    face: np.ndarray | None
    lips: np.ndarray | None


class FaceBlender:
    """Blends the generated faces of one video into its frames, in the order of the result.

    Args:
        geometry: masks and lip patches of the video.
        mouth_region_size: m of the network in pixels.
        colour: how the video's YUV is to be understood.
        bank_frames: frames of the source for the bank of lips, without generated faces.
        samples: frames with faces generated from speech of any moment, to measure the network's constant errors on
            this person.
    """

    def __init__(
        self,
        geometry: FaceGeometry,
        mouth_region_size: int,
        colour: Colour,
        bank_frames: Sequence[GeneratedFace],
        samples: Sequence[GeneratedFace],
    ):
        self._geometry = geometry
        self._size = mouth_region_size
        self._to_yuv = rgb_to_yuv_matrix(colour)
        pairs = [(self._yuv(sample.crop), self._yuv(sample.face)) for sample in samples]
        lip_masks = [geometry.masks(sample.frame, sample.box, mouth_region_size).lips for sample in samples]
        error = np.mean([crop - face for crop, face in pairs], 0)
        # On the lips the mean error depends on how open the mouth was: only its low frequencies are used there.
        lip_error = cv2.GaussianBlur(error, (0, 0), mouth_region_size / 8)
        self._bias = error + (lip_error - error) * np.mean(lip_masks, 0)[..., None]
        self._confidence = self._measure_confidence([crop - face for crop, face in pairs])
        self._band_gains = self._measure_band_gains(pairs, lip_masks)
        self._bank_frames = bank_frames
        self.lips_are_poor = are_lips_poor(
            np.stack([self._lip_patch(self._soften(self._yuv(sample.crop)), sample) for sample in bank_frames]),
            np.stack([self._lip_patch(self._soften(crop), at) for (crop, _), at in zip(pairs, samples, strict=True)]),
            np.stack([self._lip_patch(face + self._bias, at) for (_, face), at in zip(pairs, samples, strict=True)]),
        )
        """Whether the generated lips are too poor to be shown."""
        self._shot: int | None = None

    def blend(self, generated: GeneratedFace, weight: float, closed: float = 0.0) -> np.ndarray:
        """Return a copy of the frame with the generated face in it.

        Args:
            generated: the frame and its generated face.
            weight: 0 .. 1, scales the mask (cross-fade to the untouched frame).
            closed: 0 .. 1, how far the lips are to be closed.
        """
        if self._geometry.shot[generated.frame] != self._shot:
            self._shot = self._geometry.shot[generated.frame]
            self._bank.reset()
        masks = self._geometry.masks(generated.frame, generated.box, self._size)
        crop, face = self._yuv(generated.crop), self._yuv(generated.face) + self._bias
        lips = self._lip_patch(face, generated)
        new_lips = self._bank.close(lips, closed)
        match = self._bank.match(new_lips)
        face += self._lip_patch_to_crop(new_lips - lips, generated) * masks.lips[..., None]
        change = (face - crop) * self._change_weights(face - crop, masks)[..., None]
        replaced = masks.face * weight * self._unfit_detail(change, masks)
        change = change * (masks.face[..., None] * weight)
        result = generated.yuv.copy()
        from_patch = self._geometry.from_patch(generated.frame)
        for group in PLANES:
            samples = [planes(result)[number] for number in group]
            shape, step = samples[0].shape, 1 if group == LUMA else 2
            grid = grid_of_map(masks.face, generated.box, step, shape)
            if grid is None:
                continue
            added = _with_channels(grid.from_crop(_select(change, group)))
            detail_grid = grid_of_map(replaced > MIN_WEIGHT, generated.box, step, shape)
            if detail_grid is not None:
                source = np.stack([plane[detail_grid.rows, detail_grid.columns] for plane in samples], -1)
                low = detail_grid.from_crop(np.dstack([_select(crop, group) + OFFSETS[group], replaced]))
                own_detail = source - low[..., :-1]
                new_detail = self._warped_detail(match, detail_grid, from_patch, group)
                added[grid.inside(detail_grid)] += low[..., -1:] * (new_detail - own_detail)
            for channel, plane in enumerate(samples):
                part = plane[grid.rows, grid.columns]
                np.copyto(part, np.rint(np.clip(part + added[..., channel], 0, 255)), casting="unsafe")
        return result

    @cached_property
    def _bank(self) -> LipBank:
        """Made at its first use, as poor lips need none; the whole frames are then given free."""
        frames, self._bank_frames = self._bank_frames, ()
        return LipBank([entry for entry in map(self._bank_entry, frames) if entry is not None])

    def _yuv(self, rgb: np.ndarray) -> np.ndarray:
        """RGB [h, w, 3] as YUV, float32, without the offsets of Y, U and V."""
        return cv2.transform(rgb.astype(np.float32), self._to_yuv)

    def _change_weights(self, change: np.ndarray, masks: FaceMasks) -> np.ndarray:
        """Fraction [h, w] of the network's changes [h, w, 3] that is made."""
        weights = np.maximum.reduce([self._confidence, masks.lips, masks.chin])
        allowed = np.minimum(1, CHANGE_LIMIT / np.maximum(weights * self._near(np.abs(change).sum(-1), SKIN_REACH), 1))
        return weights * (allowed + (1 - allowed) * masks.mouth)

    def _near(self, values: np.ndarray, reach: float) -> np.ndarray:
        """Mean of values [h, w] over so many cells of the masks' grid to each side."""
        size = 2 * round(reach * self._size / MASK_SIZE) + 1
        return cv2.blur(values, (size, size))

    def _unfit_detail(self, change: np.ndarray, masks: FaceMasks) -> np.ndarray:
        """Fraction of the source's detail [h, w] that does not fit the generated face."""
        difference = np.abs(change).sum(-1)
        difference = np.maximum(self._near(difference, SKIN_REACH), masks.lips * self._near(difference, LIP_REACH))
        tolerance = SKIN_TOLERANCE + (LIP_TOLERANCE - SKIN_TOLERANCE) * masks.lips
        return 1 - np.exp(-((difference / tolerance) ** 2))

    def _measure_confidence(self, errors: list[np.ndarray]) -> np.ndarray:
        """Weights [h, w] of the network's changes of the skin, from its errors [h, w, 3] on some frames.

        Speech hardly changes cheeks: changes that vary from frame to frame are errors there. The chin moves with
        speech, so its changes are all made (FaceMasks.chin); unchanged, it would go on speaking the source's words.
        """
        deviation = cv2.GaussianBlur(np.std(errors, 0), (0, 0), self._size / MASK_SIZE).sum(-1)
        return SKIN_NOISE**2 / (SKIN_NOISE**2 + deviation**2)

    def _measure_band_gains(
        self, pairs: list[tuple[np.ndarray, np.ndarray]], lip_masks: list[np.ndarray]
    ) -> list[float]:
        """Contrast of the generated lips as a fraction of the source's, by frequency band, finest first.

        Args:
            pairs: (source, generated) crops in YUV, [h, w, 3].
            lip_masks: their lip masks, [h, w].
        """
        energies = np.zeros((2, len(BAND_SIGMAS)))
        for pair, mask in zip(pairs, lip_masks, strict=True):
            for row, image in enumerate(pair):
                energies[row] += [(mask * band**2).sum() for band in self._bands(image[..., 0])[:-1]]
        source, generated = energies
        return [float(min(1.0, gain)) for gain in np.sqrt(generated / np.maximum(source, 1e-9))]

    def _bands(self, image: np.ndarray) -> list[np.ndarray]:
        """Split [h, w(, c)] into frequency bands, finest first, and the rest; their sum is the image."""
        bands, rest = [], image
        for sigma in BAND_SIGMAS:
            soft = cv2.GaussianBlur(image, (0, 0), sigma * self._size / MASK_SIZE)
            bands.append(rest - soft)
            rest = soft
        return [*bands, rest]

    def _soften(self, image: np.ndarray) -> np.ndarray:
        """An image [h, w, c] as soft as the network would generate it."""
        *bands, rest = self._bands(image)
        return rest + sum(gain * band for gain, band in zip(self._band_gains, bands, strict=True))

    def _bank_entry(self, sample: GeneratedFace) -> LipFrame | None:
        """An entry of the bank; None where the lips lie outside the frame."""
        from_patch = self._geometry.from_patch(sample.frame)
        corners = from_patch @ np.array([[0, PATCH_WIDTH, 0, PATCH_WIDTH], [0, 0, PATCH_HEIGHT, PATCH_HEIGHT], [1] * 4])
        soft = self._soften(self._yuv(sample.crop))
        details, origins = [], []
        scale = sample.crop.shape[1] / sample.box.width
        for group in PLANES:
            samples = [planes(sample.yuv)[number] for number in group]
            step = 1 if group == LUMA else 2
            grid = grid_of_pixels(corners.min(1), corners.max(1), sample.box, step, samples[0].shape, scale)
            if grid is None:
                return None
            source = np.stack([plane[grid.rows, grid.columns] for plane in samples], -1)
            details.append(source - _with_channels(grid.from_crop(_select(soft, group) + OFFSETS[group])))
            origins.append((grid.columns.start, grid.rows.start))
        opening = float(lip_opening(self._geometry.points[sample.frame]))
        return LipFrame(opening, self._lip_patch(soft, sample), details, origins, from_patch)

    def _lip_patch(self, image: np.ndarray, at: GeneratedFace) -> np.ndarray:
        """The lips of `image`, [h, w, 3] at the network's size, as a lip patch."""
        if self._size != MASK_SIZE:
            height, width = network_size(MASK_SIZE)
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        matrix, size = self._patch_to_crop_matrix(at, image.shape[1]), (PATCH_WIDTH, PATCH_HEIGHT)
        return cv2.warpAffine(image, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)

    def _lip_patch_to_crop(self, patch: np.ndarray, at: GeneratedFace) -> np.ndarray:
        """The inverse of _lip_patch: [h, w, 3] at the network's size, 0 outside the patch."""
        height, width = network_size(self._size)
        return cv2.warpAffine(patch, self._patch_to_crop_matrix(at, width), (width, height), flags=cv2.INTER_LINEAR)

    def _patch_to_crop_matrix(self, at: GeneratedFace, width: int) -> np.ndarray:
        """Affine matrix from cells of the lip patch to pixels of the crop, resized to `width` pixels."""
        matrix = self._geometry.from_patch(at.frame)
        matrix[:, 2] += 0.5 - np.array([at.box.left, at.box.top])
        matrix *= width / at.box.width
        matrix[:, 2] -= 0.5
        return matrix

    def _warped_detail(
        self, match: LipMatch, grid: SampleGrid, from_patch: np.ndarray, group: tuple[int, ...]
    ) -> np.ndarray:
        """Detail of the matched lips [h, w, channels], warped to the generated ones, at the samples of `grid`."""
        entry, number = match.entry, PLANES.index(group)
        pixels = match.cells @ entry.from_patch[:, :2].T + entry.from_patch[:, 2]
        samples = (pixels - (grid.step - 1) / 2) / grid.step - entry.origins[number]
        coordinates = grid.from_patch(np.dstack([samples, match.trust]).astype(np.float32), from_patch)
        x, y, trust = (np.ascontiguousarray(coordinates[..., channel]) for channel in range(3))
        detail = cv2.remap(entry.details[number], x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
        return _with_channels(detail) * trust[..., None]


def _select(image: np.ndarray, group: tuple[int, ...]) -> np.ndarray:
    """Channels of `group` of an image [h, w, 3]."""
    return np.ascontiguousarray(image[..., list(group)])


def _with_channels(image: np.ndarray) -> np.ndarray:
    """[h, w, channels] also where OpenCV leaves a single channel out."""
    return image if image.ndim == 3 else image[..., None]
