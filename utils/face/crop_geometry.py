"""Position and size of the face crop in a frame.

The crop is 3.25 r high and 2.5 r wide for a crop radius r, and holds the mouth region: the square that the network
fills in. Network side, a mouth region of m pixels has crops of height 3m/2 + m/8 and width m + m/4.
Matches utils/data_processing.py of MRzzm/DINet.
"""

from dataclasses import dataclass

import numpy as np

from utils.face.landmarks import MOUTH_LEFT, MOUTH_RIGHT, NOSE_BASE, NOSE_BRIDGE

INFERENCE_SCALE = 1.05
"""Scale s of the frame to dub."""
TRAINING_SCALE_RANGE = (1.05, 1.15)
"""Range of s for training crops and reference crops."""
MAX_RADIUS_RATIO = 1.5
"""A window whose largest radius exceeds this many times its smallest holds a landmark error or a fast zoom."""


@dataclass(frozen=True)
class CropBox:
    """A crop in pixels of the full frame; `bottom` and `right` are exclusive. May leave the frame."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.right - self.left

    def inside(self, frame_width: int, frame_height: int) -> bool:
        """True where no side leaves the frame."""
        return self.top >= 0 and self.left >= 0 and self.bottom <= frame_height and self.right <= frame_width


def network_size(mouth_region_size: int) -> tuple[int, int]:
    """Return (height, width) in pixels of the network's crops: 416 x 320 for a mouth region of 256."""
    m = mouth_region_size
    return m * 3 // 2 + m // 8, m + m // 4


def mouth_region(mouth_region_size: int) -> tuple[slice, slice]:
    """Return the (rows, columns) of the masked square inside the network's crop."""
    m = mouth_region_size
    return slice(m // 2, m // 2 + m), slice(m // 8, m // 8 + m)


def frame_radius(landmarks: np.ndarray, scale: float = INFERENCE_SCALE) -> np.ndarray:
    """Crop radius of single frames, before it is rounded up over a window.

    Args:
        landmarks: [..., 68, 2] pixels (x, y); truncated to integers first, as the published code does.
        scale: s, dimensionless.

    Returns:
        [...] pixels, floor(max((y_max - y_29) s, (x_54 - x_48) s) / 2), float (NaN where landmarks are NaN).
    """
    points = np.trunc(landmarks)
    height = points[..., 1].max(axis=-1) - points[..., NOSE_BRIDGE, 1]
    width = points[..., MOUTH_RIGHT, 0] - points[..., MOUTH_LEFT, 0]
    return np.floor(np.maximum(height * scale, width * scale) / 2)


def round_radius(radius: float) -> int:
    """Radius of a window whose largest frame radius is `radius`: the next multiple of four above it."""
    return 4 * (int(radius // 4) + 1)


def crop_box(landmarks: np.ndarray, radius: int) -> CropBox:
    """Crop of one frame.

    Args:
        landmarks: [68, 2] pixels (x, y).
        radius: window radius r in pixels, a multiple of four.
    """
    x = int(landmarks[NOSE_BASE, 0])
    y = int(landmarks[NOSE_BRIDGE, 1])
    quarter = radius // 4
    return CropBox(y - radius, y + 2 * radius + quarter, x - radius - quarter, x + radius + quarter)


@dataclass(frozen=True)
class WindowCheck:
    """Radius at which a window of frames can be cropped, or None and the reason."""

    radius: int | None
    problem: str | None = None


def check_window(
    landmarks: np.ndarray, frame_width: int, frame_height: int, scale: float = INFERENCE_SCALE
) -> WindowCheck:
    """Radius of a window of training frames: the crops of all frames must lie inside the image.

    Args:
        landmarks: [T, 68, 2] pixels (x, y).
        frame_width: frame width in pixels.
        frame_height: frame height in pixels.
        scale: s, dimensionless.

    Returns:
        The radius, or None with the cause in words.
    """
    if np.isnan(landmarks).any():
        return WindowCheck(None, "no face in some frame")
    radii = frame_radius(landmarks, scale)
    smallest, largest = float(radii.min()), float(radii.max())
    if smallest <= 0:
        return WindowCheck(None, "landmarks upside down or collapsed")
    if largest > MAX_RADIUS_RATIO * smallest:
        return WindowCheck(None, f"face size jumps from radius {smallest:.0f} to {largest:.0f} pixels")
    radius = round_radius(largest)
    sides: list[str] = []
    for points in landmarks:
        box = crop_box(points, radius)
        if box.inside(frame_width, frame_height):
            continue
        for side, outside in (
            ("top", box.top < 0),
            ("bottom", box.bottom > frame_height),
            ("left", box.left < 0),
            ("right", box.right > frame_width),
        ):
            if outside and side not in sides:
                sides.append(side)
    if sides:
        return WindowCheck(None, f"crop leaves the picture at the {' and '.join(sides)}")
    return WindowCheck(radius)
