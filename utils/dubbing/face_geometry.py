"""Masks of the lower face and of the lips in each crop, and lip patches: coordinates that move with the head.

Landmarks jitter by about a pixel, so all of this is computed from landmarks smoothed over time inside each shot.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from utils.face.crop_geometry import CropBox, network_size
from utils.face.crop_plan import CropPlan
from utils.face.landmarks import LOWER_JAW, MOUTH, NOSE_BASE_LINE, NOSE_TIP, STABLE_POINTS, lip_opening

MASK_SIZE = 64
"""Mouth region of the grid that masks are drawn on: 104 x 80 cells for the whole crop."""
CELLS_PER_RADIUS = MASK_SIZE // 2

SMOOTHING_FRAMES = 1.5
"""Standard deviation of the smoothing of landmarks over time."""

PATCH_WIDTH, PATCH_HEIGHT = 52, 44
"""Size of a lip patch in cells; a cell is 1/32 of the crop radius."""
PATCH_CENTRE = 19
"""Row of the middle of the mouth in a lip patch: an open mouth needs more room below."""

_CHIN = slice(1, 8)
"""Of LOWER_JAW: points 5 to 11."""

CHIN_ROOM = 0.2 * np.array([0.25, 0.6, 0.9, 1, 0.9, 0.6, 0.25], np.float32)
"""How far below points 5 to 11 the mask reaches, in crop radii, so that the chin can drop. At its sides lies what the
network cannot know: collar and background."""
CHIN_EDGE = 0.25
"""Width of the soft edge of the chin's weight, in crop radii."""
SHRINK, FEATHER = 0.1, 0.3
"""Inner margin and width of the soft edge of the face's mask, in crop radii."""
LIP_STRETCH, LIP_DROP, LIP_MARGIN, LIP_FEATHER = 1.35, 0.18, 0.1, 0.15
"""The lips' zone: width against the lips', room below for an open mouth, margin and soft edge in crop radii."""


@dataclass(frozen=True)
class FaceMasks:
    """Weights in [0, 1] in a crop, float32 [h, w].

    Attributes:
        face: the lower face.
        lips: where the lips are or may come to be.
        mouth: as far out as the source's lips.
        chin: below them.
    """

    face: np.ndarray
    lips: np.ndarray
    mouth: np.ndarray
    chin: np.ndarray


class FaceGeometry:
    """Masks and lip patches of all frames of a video.

    A lip patch is an image of the lips, PATCH_HEIGHT x PATCH_WIDTH cells, in coordinates that move, turn and scale
    with the head, so that lips of the same shape coincide in different frames.

    Args:
        plan: crops of the video.
        shots: int [S], first frame of each shot, beginning with 0.
    """

    def __init__(self, plan: CropPlan, shots: np.ndarray):
        frames = np.arange(len(plan.points))
        self.shot = np.searchsorted(shots, frames, side="right")
        """int [N]: number of each frame's shot."""
        self.points = smooth_points(plan.points, self.shot)
        has_full_weight = plan.weight == 1
        self._full_weight = np.flatnonzero(has_full_weight if has_full_weight.any() else plan.usable)
        # Points are complex numbers x + iy: multiplication by one complex factor rotates and scales them. Cell c of the
        # patch lies at pixel centre + rotation_scale * (patch_origin + c); centre is the mean of the stable points.
        points = self.points.astype(np.float64) @ np.array([1, 1j])  # [N, 68]
        stable = points[:, STABLE_POINTS]
        self._centre = stable.mean(1)
        self._rotation_scale = np.full(len(stable), np.nan + 0j)
        known = np.flatnonzero(plan.usable)
        shapes = stable[known] - self._centre[known, None]
        template = (shapes / fit_rotation_scale(shapes[0], shapes)[:, None]).mean(0)  # the first face, corrected by all
        rotation_scale = fit_rotation_scale(template, shapes)
        cell = np.median(plan.radius[known] / CELLS_PER_RADIUS / np.abs(rotation_scale))
        self._rotation_scale[known] = rotation_scale * cell
        mouth = (points[known, MOUTH].mean(1) - self._centre[known]) / self._rotation_scale[known]
        self._patch_origin = np.median(mouth.real) - PATCH_WIDTH / 2 + 1j * (np.median(mouth.imag) - PATCH_CENTRE)

    def lip_samples(self, count: int) -> list[int]:
        """Up to `count` frames, in rising order, spread evenly over the lip openings from closed to open."""
        by_opening = self._full_weight[np.argsort(lip_opening(self.points[self._full_weight]), kind="stable")]
        ranks = np.linspace(0, len(by_opening) - 1, min(count, len(by_opening)))
        return sorted(int(frame) for frame in by_opening[np.rint(ranks).astype(int)])

    def from_patch(self, frame: int) -> np.ndarray:
        """Affine matrix float64 [2, 3] from cells of the lip patch to pixels of a frame."""
        factor = self._rotation_scale[frame]
        start = self._centre[frame] + factor * self._patch_origin
        return np.array([[factor.real, -factor.imag, start.real], [factor.imag, factor.real, start.imag]])

    def pose(self, frame: int) -> np.ndarray:
        """How the head is turned in a frame: tip of the nose, (x, y) in cells from the middle of the stable points."""
        tip = self.points[frame, NOSE_TIP].astype(np.float64) @ np.array([1, 1j])
        turned = (tip - self._centre[frame]) / self._rotation_scale[frame]
        return np.array([turned.real, turned.imag])

    def masks(self, frame: int, box: CropBox, mouth_region_size: int) -> FaceMasks:
        """Masks of a frame at the network's size."""
        scale = CELLS_PER_RADIUS * 2.5 / box.width
        points = (self.points[frame] - np.array([box.left, box.top]) + 0.5) * scale - 0.5
        height, width = network_size(mouth_region_size)
        lips, mouth = _lip_mask(points, LIP_STRETCH), _lip_mask(points, 1)
        masks = [np.maximum(_face_mask(points), lips), lips, mouth]
        if mouth_region_size != MASK_SIZE:
            masks = [cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR) for mask in masks]
        x, y = ((np.arange(size) + 0.5) * MASK_SIZE / mouth_region_size - 0.5 for size in (width, height))
        return FaceMasks(*masks, _chin_mask(points, x, y))


def smooth_points(points: np.ndarray, shots: np.ndarray) -> np.ndarray:
    """Landmarks [N, 68, 2] smoothed over time inside each shot; NaN stays NaN and counts nowhere.

    Args:
        points: float32 [N, 68, 2].
        shots: int [N], number of each frame's shot.
    """
    known = ~np.isnan(points[:, :1, :1])
    filled = np.where(known, points, 0)
    total, weights = np.zeros(points.shape), np.zeros(known.shape)
    reach = round(3 * SMOOTHING_FRAMES)
    reach = min(reach, len(points) - 1)
    for shift in range(-reach, reach + 1):
        here = slice(max(0, -shift), len(points) - max(0, shift))
        there = slice(max(0, shift), len(points) + min(0, shift))
        same = known[there] & (shots[here] == shots[there])[:, None, None]
        weight = np.exp(-0.5 * (shift / SMOOTHING_FRAMES) ** 2) * same
        total[here] += weight * filled[there]
        weights[here] += weight
    return np.where(known, total / np.maximum(weights, 1e-9), np.nan).astype(np.float32)


def fit_rotation_scale(template: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Rotation and scale, complex [N], that bring the centred template [P] nearest to centred shapes [N, P]."""
    return (shapes * template.conj()).sum(1) / (np.abs(template) ** 2).sum()


def _face_mask(points: np.ndarray) -> np.ndarray:
    jaw = points[LOWER_JAW].copy()
    jaw[_CHIN, 1] += CHIN_ROOM * CELLS_PER_RADIUS
    return _filled(np.concatenate([jaw, points[NOSE_BASE_LINE]]), -SHRINK, FEATHER)


def _lip_mask(points: np.ndarray, stretch: float) -> np.ndarray:
    lips = points[MOUTH]
    middle = lips[:, 0].mean()
    wide = np.stack([middle + stretch * (lips[:, 0] - middle), lips[:, 1]], -1)
    both = np.concatenate([wide, wide + np.array([0, LIP_DROP * CELLS_PER_RADIUS])]).astype(np.float32)
    return _filled(cv2.convexHull(both)[:, 0], LIP_MARGIN, LIP_FEATHER)


def _chin_mask(points: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Float32 [len(y), len(x)]: 1 below the mouth between points 5 and 11 of the jaw, with soft edges inside."""
    chin, edge = points[LOWER_JAW][_CHIN, 0], CHIN_EDGE * CELLS_PER_RADIUS
    sides = np.clip(np.minimum(x - chin.min(), chin.max() - x) / edge, 0, 1)
    top = np.clip((y - points[MOUTH, 1].max()) / edge, 0, 1)
    return (sides * top[:, None]).astype(np.float32)


def _filled(polygon: np.ndarray, margin: float, feather: float) -> np.ndarray:
    """Float32 [104, 80]: 1 inside the polygon, grown by `margin`, with a soft edge of width `feather` (crop radii)."""
    height, width = network_size(MASK_SIZE)
    mask = np.zeros((height, width), np.uint8)
    corners = np.rint(polygon * 16).astype(np.int32)
    cv2.fillPoly(mask, [corners], 255, lineType=cv2.LINE_AA, shift=4)
    cells = 2 * round(abs(margin) * CELLS_PER_RADIUS) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (cells, cells))
    mask = cv2.dilate(mask, kernel) if margin > 0 else cv2.erode(mask, kernel, borderType=cv2.BORDER_REPLICATE)
    soft = mask.astype(np.float32) / 255
    cells = 2 * round(feather * CELLS_PER_RADIUS / 4) + 1
    for _ in range(2):  # two boxes: a smooth edge of finite width
        soft = cv2.blur(soft, (cells, cells), borderType=cv2.BORDER_REPLICATE)
    return soft
