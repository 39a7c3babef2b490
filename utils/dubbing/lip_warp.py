"""Lips of a frame moved to another opening and width.

The upper lip with the skin up to the nose, the lower lip with the chin, and the inside of the mouth are three layers.
The lips keep their thickness, colour and sharpness. The inside keeps its distance to the upper lip, to which the teeth
belong; where the mouth opens further than in the frame, it comes from another frame of the same person whose mouth is
as wide open, and is dark where none is.
"""

from copy import copy
from dataclasses import dataclass

import cv2
import numpy as np

from utils.dubbing.blending import smoothstep
from utils.face.landmarks import (
    CHIN,
    INNER_LIP_LOWER,
    INNER_LIP_UPPER,
    MOUTH_LEFT,
    MOUTH_RIGHT,
    NOSE_BASE,
    OUTER_LIP_LOWER,
    OUTER_LIP_UPPER,
    eye_distance,
)
from utils.media.yuv import planes

MAX_WIDTH_CHANGE = 0.15
"""Largest change of the width of the mouth, as a fraction: beyond it the cheeks look drawn."""
UPPER_SHARE = 0.25
"""Fraction of a change of the opening that the upper lip makes; the lower lip makes the rest."""
MIN_FADE = 0.2
"""Smallest distance over which the motion of the skin fades, in distances between the eyes."""
DARKNESS = 0.5
"""Light of an open mouth without teeth, as a fraction of the darkest of the lips."""
DARK_EDGES = (-0.04, -0.015)
"""Where the dark begins and where all is dark, from the inner edge of the lower lip in distances between the eyes.
Landmarks often lie inside the lip: nearer to it, its rim would show in the open mouth."""
OTHER_FROM = 0.01
"""How much further open than in the frame a mouth is when half of its inside is another's, in eye distances."""
CHIN_DROP = 1.2
"""Where the motion of the chin ends, as a fraction of its distance from the mouth."""
LINE_STEPS = 4096
"""Points along the mouth at which its edges are computed: a few to a pixel."""
SOFT_EDGE = np.float32(0.5)
"""Half the width of the lips' soft edges, as a fraction of it; it is a pixel where the mouth does not open further."""
SHADED_EDGE = 0.025
"""How much softer the edges are where it does, in distances between the eyes: hard ones look drawn."""
SEAM_REACH, SEAM_STEPS = 0.1, 33
"""How far from the landmarks the line between closed lips is searched, in distances between the eyes, and on how many
points to each direction: landmarks miss it by up to 0.06."""
SEAM_PRIOR, SEAM_BEND = 1.0, 0.15
"""Cost of the largest distance from the landmarks, and of a step across, against the darkness of the line."""
CLOSED, OPEN = 0.02, 0.07
"""Lip openings (lip_opening) by landmarks up to which that line replaces them, and from which it does not."""
SHUT = (0.015, 0.03)
"""Lip openings by landmarks up to which lips are shut, and from which they are not: what lies between them is lip."""
MISSED = 0.02
"""How far outside the landmarks' opening that line must lie, in distances between the eyes, for lips to be closed."""


@dataclass(frozen=True)
class LipTarget:
    """What lips are to become.

    Attributes:
        opening: as lip_opening.
        width: of the mouth, in distances between the eyes.
    """

    opening: float
    width: float


@dataclass(frozen=True)
class InnerMouth:
    """The mouth of another frame, whose inside may be shown.

    Attributes:
        yuv: part of that frame, uint8 [h * 3 // 2, w] (I420).
        mouth: its lips, in pixels of that part.
    """

    yuv: np.ndarray
    mouth: "Mouth"


class Mouth:
    """Geometry of the lips of one frame, in coordinates (u, v) in pixels along and across the mouth.

    Args:
        points: landmarks [68, 2] in pixels.
        luma: uint8 [H, W], the frame, to find the line between closed lips.
    """

    def __init__(self, points: np.ndarray, luma: np.ndarray):
        points = points.astype(np.float64)
        self.unit = max(1.0, float(eye_distance(points)))
        self._middle = (points[MOUTH_LEFT] + points[MOUTH_RIGHT]) / 2
        along = points[MOUTH_RIGHT] - points[MOUTH_LEFT]
        along /= max(np.linalg.norm(along), 1e-6)
        self._axes = np.array([along, [-along[1], along[0]]])
        turned = (points - self._middle) @ self._axes.T
        top, bottom = turned[INNER_LIP_UPPER], turned[INNER_LIP_LOWER]
        self._between, self._opened = _curve((top + bottom) / 2), _curve(np.stack([top[:, 0], (bottom - top)[:, 1]], 1))
        self._outer_top, self._outer_bottom = (_curve(turned[line]) for line in (OUTER_LIP_UPPER, OUTER_LIP_LOWER))
        self._inner_ends = top[[0, -1], 0]
        self._inner_width = max(1.0, np.ptp(self._inner_ends))
        self._ends = turned[[MOUTH_LEFT, MOUTH_RIGHT], 0]
        self._nose, self._chin = turned[NOSE_BASE, 1], turned[CHIN, 1]
        self.gap = max(0.0, float((bottom - top)[len(top) // 2, 1]))
        """Distance of the inner lips in pixels."""
        self._outline = points[[*OUTER_LIP_UPPER, *OUTER_LIP_LOWER[::-1]]]
        self._correct(luma)

    @property
    def width(self) -> float:
        """Width of the mouth in distances between the eyes."""
        return max(1.0, float(np.ptp(self._ends))) / self.unit

    def area(self, shape: tuple[int, int]) -> tuple[slice, slice] | None:
        """Rows and columns of a frame [H, W] that may change, on even pixels; None outside the frame."""
        half, fade = 1.2 * np.ptp(self._ends), MIN_FADE * self.unit
        corners = np.array([[u, v] for u in (-half, half) for v in (self._nose - fade, 1.3 * self._chin)])
        corners = corners @ self._axes + self._middle
        size = np.array(shape[::-1])
        first = np.clip(np.floor(corners.min(0)).astype(int), 0, size) // 2 * 2
        last = (np.clip(np.ceil(corners.max(0)).astype(int), 0, size) + 1) // 2 * 2
        return (slice(first[1], last[1]), slice(first[0], last[0])) if (last > first).all() else None

    def moved(self, offset: tuple[int, int]) -> "Mouth":
        """The same in pixels of a part of the frame that begins at `offset` (x, y)."""
        other = copy(self)
        other._middle = self._middle - offset
        other._outline = self._outline - offset
        return other

    def edges(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """v of the inner edges of the upper and of the lower lip at some u."""
        u = np.clip(u, *self._inner_ends)
        between, opened = self._between(u), np.maximum(self._opened(u), 0)
        return between - opened / 2, between + opened / 2

    def layers(self, rows: slice, columns: slice, gap: float, width: float) -> "Layers":
        """Layers of an area for lips `gap` pixels apart and `width` times as wide."""
        x = np.arange(columns.start, columns.stop, dtype=np.float32)
        y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
        u, v = self._from_pixels(x, y)
        half, fade = max(1.0, np.ptp(self._ends) / 2), MIN_FADE * self.unit
        distance = np.sqrt((u / np.float32(1.25 * half)) ** 2 + (v / np.float32(1.1 * half)) ** 2)
        u += u * (np.float32(1 / width - 1) * (1 - smoothstep((distance - 0.8) / 0.9)))
        # All that depends on u alone is computed along a line and looked up.
        line = np.linspace(u.min(), u.max(), LINE_STEPS)
        cells = _cells(u, line)
        top, bottom = self.edges(line)
        here = bottom - top
        if gap > self.gap:
            across = (line - self._inner_ends.mean()) / (self._inner_width / 2)
            opened = (gap - self.gap) * np.clip(1 - across**2, 0, 1)
        else:
            opened = here * (gap / max(self.gap, 1e-6) - 1)
        upper_lip, lower_lip = self._thickness(line, top, bottom)
        up, down = (_look_up(move, cells) for move in (-UPPER_SHARE * opened, (1 - UPPER_SHARE) * opened))
        # Lips keep their thickness; beyond them the motion fades up to the nose and down to the chin.
        upper_fade = _look_up(np.maximum(top - upper_lip - self._nose, fade), cells)
        lower_fade = _look_up(np.maximum(CHIN_DROP * self._chin - bottom - lower_lip, fade), cells)
        upper_lip, lower_lip = _look_up(upper_lip, cells), _look_up(lower_lip, cells)
        is_open = _look_up(np.clip(here + opened, 0, 1), cells)
        further_open = _look_up(smoothstep(opened / (CLOSED * self.unit)), cells)
        top, bottom = _look_up(top, cells), _look_up(bottom, cells)
        above, below = top + up - v, v - bottom - down  # distances from the new inner edges
        upper = v - up * (1 - smoothstep((above - upper_lip) / upper_fade))
        lower = v - down * (1 - smoothstep((below - lower_lip) / lower_fade))
        inside = v - np.minimum(up, 0)
        edge = 1 + np.float32(SHADED_EDGE * self.unit) * further_open
        return Layers(
            self._to_pixels(u, np.minimum(upper, top + SOFT_EDGE)),
            self._to_pixels(u, np.maximum(lower, bottom - SOFT_EDGE)),
            self._to_pixels(u, np.clip(inside, top - SOFT_EDGE, bottom + SOFT_EDGE)),
            np.clip(above / edge + SOFT_EDGE, 0, 1),
            np.clip(below / edge + SOFT_EDGE, 0, 1),
            further_open * self._darkness(inside, bottom),
            is_open,
            ((u - self._inner_ends[0]) / self._inner_width, -above / np.float32(self.unit)),
        )

    def inner_layer(self, places: tuple[np.ndarray, np.ndarray]) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        """Where `places` in the mouth of another frame, see Layers, are taken from in this one, and how dark it is."""
        across, down = places
        u = (self._inner_ends[0] + across * self._inner_width).astype(np.float32)
        line = np.linspace(*self._inner_ends, LINE_STEPS)
        cells = _cells(np.clip(u, *self._inner_ends), line)
        top, bottom = (_look_up(edge, cells) for edge in self.edges(line))
        v = top + down * np.float32(self.unit)
        return self._to_pixels(u, np.clip(v, top, bottom)), self._darkness(v, bottom)

    def _thickness(self, u: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the upper and the lower lip in pixels, at u, where their inner edges are `top` and `bottom`."""
        u = np.clip(u, *self._ends)
        return np.maximum(top - self._outer_top(u), 0), np.maximum(self._outer_bottom(u) - bottom, 0)

    def _darkness(self, v: np.ndarray, bottom: np.ndarray) -> np.ndarray:
        """How far it is dark at v: 1 where the lower lip would show."""
        begin, end = DARK_EDGES
        return smoothstep((v - bottom - begin * self.unit) / max(1.0, (end - begin) * self.unit))

    def _from_pixels(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(u, v) of pixels."""
        along, across = self._axes.astype(np.float32)
        x, y = x - np.float32(self._middle[0]), y - np.float32(self._middle[1])
        return along[0] * x + along[1] * y, across[0] * x + across[1] * y

    def _to_pixels(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (x, y), float32."""
        (x, y), (along, across) = self._middle.astype(np.float32), self._axes.astype(np.float32)
        return x + along[0] * u + across[0] * v, y + along[1] * u + across[1] * v

    def dark_samples(self, yuv: np.ndarray) -> list[float]:
        """Y, U and V of an open mouth without teeth in this frame."""
        left, top = (np.floor(self._outline.min(0)).astype(int) - 2) // 2 * 2
        right, bottom = (np.ceil(self._outline.max(0)).astype(int) + 2) // 2 * 2
        rows, columns = slice(max(0, top), max(0, bottom)), slice(max(0, left), max(0, right))
        samples = []
        for number, part in enumerate(_parts(yuv, rows, columns)):
            mask = np.zeros(part.shape, np.uint8)
            step, black, percentile = (2, 128, 50) if number else (1, 16, 5)
            outline = (self._outline - (columns.start, rows.start)) / step
            cv2.fillPoly(mask, [np.rint(outline).astype(np.int32)], 1)
            lightness = np.percentile(part[mask > 0], percentile) if mask.any() else black
            samples.append(black + DARKNESS * (float(lightness) - black))
        return samples

    def _correct(self, luma: np.ndarray) -> None:
        """Move the inner edges to the dark line between the lips, where the landmarks miss it."""
        opening, area = self.gap / self.unit, self.area(luma.shape)
        if opening > OPEN or area is None:
            return
        u, distances = self._seam(luma, *area)
        closed = 1 - smoothstep((opening - CLOSED) / (OPEN - CLOSED))
        shut = 1 - smoothstep((opening - SHUT[0]) / (SHUT[1] - SHUT[0]))
        missed = smoothstep((abs(distances.mean()) - self.gap / 2) / self.unit / MISSED)
        self._between += float(max(closed, missed)) * _curve(np.stack([u, distances], -1))
        left = 1 - float(max(shut, missed))
        self._opened *= left
        self.gap *= left

    def _seam(self, luma: np.ndarray, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        """How far below the middle of the inner lips the dark line between them lies, at some u: (u, distance)."""
        u, offsets = np.linspace(*self._ends, SEAM_STEPS), SEAM_REACH * self.unit * np.linspace(-1, 1, SEAM_STEPS)
        middle = self._between(np.clip(u, *self._inner_ends))
        part = cv2.GaussianBlur(luma[rows, columns], (0, 0), max(0.5, 0.012 * self.unit)).astype(np.float32)
        x, y = self._to_pixels(u.astype(np.float32), (middle + offsets[:, None]).astype(np.float32))
        x, y = x - np.float32(columns.start), y - np.float32(rows.start)
        lightness = cv2.remap(part, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        cost = (lightness - lightness.mean(0)) / (lightness.std() + 1)
        cost += SEAM_PRIOR * np.linspace(-1, 1, SEAM_STEPS)[:, None] ** 2
        path = _cheapest_path(cost, SEAM_BEND)
        return u, offsets[path]


@dataclass(frozen=True)
class Layers:
    """Where each pixel of an area of a frame is taken from.

    Attributes:
        upper, lower, inside: of the upper lip, the lower lip and the inside of the mouth: x and y, float32 [h, w] each.
        upper_opacity, lower_opacity: float32 [h, w] in [0, 1].
        dark: how far the inside is dark, float32 [h, w] in [0, 1].
        is_open: whether the lips are apart there, float32 [h, w] in [0, 1]: the distance in pixels up to 1.
        places: fraction of the mouth's width, and distance from the upper lip in eye distances, [h, w] each.
    """

    upper: tuple[np.ndarray, np.ndarray]
    lower: tuple[np.ndarray, np.ndarray]
    inside: tuple[np.ndarray, np.ndarray]
    upper_opacity: np.ndarray
    lower_opacity: np.ndarray
    dark: np.ndarray
    is_open: np.ndarray
    places: tuple[np.ndarray, np.ndarray]


def move_lips(
    yuv: np.ndarray, mouth: Mouth, target: LipTarget, weight: float = 1.0, other: InnerMouth | None = None
) -> np.ndarray:
    """Return a copy of a frame with its lips moved.

    Args:
        yuv: uint8 [H * 3 // 2, W] (I420).
        mouth: its lips.
        target: opening and width to move them to.
        weight: 0 .. 1, fraction of the way.
        other: mouth of another frame whose inside is shown as far as this one is not as wide open as `target`.
    """
    result, sources = yuv.copy(), planes(yuv)
    area = mouth.area(sources[0].shape)
    if area is None:
        return result
    width = 1 + weight * np.clip(target.width / mouth.width - 1, -MAX_WIDTH_CHANGE, MAX_WIDTH_CHANGE)
    gap = mouth.gap + weight * (target.opening * mouth.unit - mouth.gap)
    layers = mouth.layers(*area, gap, float(width))
    share = 0 if other is None else np.float32(smoothstep((gap - mouth.gap) / mouth.unit / OTHER_FROM - 0.5))
    if share:
        others = planes(other.yuv)
        other_pixels, other_dark = other.mouth.inner_layer(layers.places)
    for number, (part, dark) in enumerate(zip(_parts(result, *area), mouth.dark_samples(yuv), strict=True)):
        step = 2 if number else 1
        every = (slice(None, None, step), slice(None, None, step))
        upper, lower, inside = (
            _taken(sources[number], pixels, step) for pixels in (layers.upper, layers.lower, layers.inside)
        )
        inside += (layers.is_open * layers.dark)[every] * (dark - inside)
        if share:
            other_inside = _taken(others[number], other_pixels, step)
            other_inside += other_dark[every] * (dark - other_inside)
            inside += share * layers.is_open[every] * (other_inside - inside)
        inside += layers.upper_opacity[every] * (upper - inside)
        inside += layers.lower_opacity[every] * (lower - inside)
        np.copyto(part, np.rint(np.clip(inside, 0, 255)), casting="unsafe")
    return result


def cut_inner_mouth(yuv: np.ndarray, mouth: Mouth) -> InnerMouth | None:
    """The mouth of a frame, to show its inside in others; None where it lies outside the frame."""
    area = mouth.area(planes(yuv)[0].shape)
    if area is None:
        return None
    rows, columns = area
    part = np.concatenate([part.ravel() for part in _parts(yuv, rows, columns)])
    return InnerMouth(part.reshape(-1, columns.stop - columns.start), mouth.moved((columns.start, rows.start)))


def _parts(yuv: np.ndarray, rows: slice, columns: slice) -> list[np.ndarray]:
    """Views of the planes of a frame inside rows and columns, which begin and end on even pixels."""
    return [
        plane[rows.start // step : rows.stop // step, columns.start // step : columns.stop // step]
        for plane, step in zip(planes(yuv), (1, 2, 2), strict=True)
    ]


def _taken(plane: np.ndarray, pixels: tuple[np.ndarray, np.ndarray], step: int) -> np.ndarray:
    """A plane, float32, sampled at every `step`-th of the pixels (x, y), of which it has one sample to `step`."""
    x, y = (np.ascontiguousarray(part[::step, ::step]) * np.float32(1 / step) for part in pixels)
    return cv2.remap(plane, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)


def _cells(u: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Index into a `line` of equidistant points of each of the u."""
    scale = (len(line) - 1) / max(float(line[-1] - line[0]), 1e-6)
    return ((u - np.float32(line[0])) * np.float32(scale) + np.float32(0.5)).astype(np.int32).clip(0, len(line) - 1)


def _look_up(values: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Values along a line, float32, at the cells of an image."""
    return values.astype(np.float32).take(cells)


def _cheapest_path(cost: np.ndarray, bend: float) -> np.ndarray:
    """Row [columns] of the path through `cost` [rows, columns] with the lowest sum; steps of one row cost `bend`."""
    total, came_from = cost[:, 0], []
    for column in cost.T[1:]:
        padded = np.pad(total, 1, constant_values=np.inf)
        options = np.stack([padded[:-2] + bend, total, padded[2:] + bend])
        came_from.append(options.argmin(0) - 1)
        total = options.min(0) + column
    path = [int(total.argmin())]
    for step in reversed(came_from):
        path.append(path[-1] + int(step[path[-1]]))
    return np.array(path[::-1])


def _curve(line: np.ndarray) -> np.polynomial.Polynomial:
    """v as a function of u through points [P, 2]; simpler where points coincide."""
    different = len(np.unique(line[:, 0].round(1)))
    domain = [line[:, 0].min(), line[:, 0].max() + 1e-3]
    return np.polynomial.Polynomial.fit(*line.T, min(4, different - 1), domain=domain).convert()
