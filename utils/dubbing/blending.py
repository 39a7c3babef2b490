"""Blending by a fixed mask (`--blend feather` and `hard`): colour match, mask, paste into the frame."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from utils.face.crop import FaceCrop
from utils.face.crop_geometry import CropBox, mouth_region, network_size
from utils.media.images import resize_image
from utils.media.yuv import Colour, set_rgb_patch

FEATHER_WIDTH = 0.2
"""Width of the blend outside the masked square, in crop radii. The network sees a ring of 0.25 radii there."""
COLOUR_MAP_CELLS = 32
"""Colour is compared on a grid with this many cells across the mouth region."""
MAX_COLOUR_SHIFT = 0.15
"""Maximum colour correction, colours being in [0, 1]; a larger difference is a hand or a microphone in the ring."""


@dataclass(frozen=True)
class PasteMask:
    """Weights of the generated face inside a crop of some radius.

    `alpha` is float32 [rows, columns, 1] in [0, 1] and covers `rows` and `columns` of the crop, in pixels of the frame.
    """

    rows: slice
    columns: slice
    alpha: np.ndarray


@lru_cache(maxsize=64)
def paste_mask(radius: int, blend: str) -> PasteMask:
    """Mask for one crop radius.

    Args:
        radius: crop radius r in pixels; the crop is 3.25 r by 2.5 r.
        blend: "feather" replaces the masked square and fades out in the ring round it; "hard" replaces
            rows 0 .. 3r of the crop, with hard edges (as published).
    """
    quarter = radius // 4
    if blend == "hard":
        rows, columns = slice(0, 3 * radius), slice(0, 2 * (radius + quarter))
        return PasteMask(rows, columns, np.ones((3 * radius, 2 * (radius + quarter), 1), np.float32))
    if blend != "feather":
        raise ValueError(f"blend must be 'feather' or 'hard', not {blend!r}")
    width = max(1, round(FEATHER_WIDTH * radius))
    rows = slice(radius - width, 3 * radius + width)
    columns = slice(quarter - width, quarter + 2 * radius + width)

    def outside(part: slice, first: int, last: int) -> np.ndarray:
        """Distance in pixels of each pixel of `part` from the masked square's first .. last pixel."""
        position = np.arange(part.start, part.stop)
        return np.maximum(np.maximum(first - position, position - last), 0).astype(np.float32)

    down = outside(rows, radius, 3 * radius - 1)[:, None]
    across = outside(columns, quarter, quarter + 2 * radius - 1)[None, :]
    alpha = smoothstep(1 - np.hypot(down, across) / (width + 1))  # no crease where the blend starts and ends
    return PasteMask(rows, columns, alpha[..., None])


def smoothstep(position: np.ndarray) -> np.ndarray:
    """0 up to position 0, 1 from position 1, smooth between them."""
    position = np.clip(position, 0, 1)
    return position * position * (3 - 2 * position)


def match_colour(generated: torch.Tensor, real: torch.Tensor, mouth_region_size: int) -> torch.Tensor:
    """Remove the tint of the generated face, measured on the ring round the masked square.

    The difference on the ring is spread smoothly over the whole crop (normalised convolution), so that both
    images agree along the seam and lighting that varies over the face is kept.

    Args:
        generated: [B, 3, H, W] in [0, 1].
        real: [B, 3, H, W] in [0, 1], the unmasked crop.
        mouth_region_size: m in pixels, a multiple of 32.

    Returns:
        [B, 3, H, W] in [0, 1], float32.
    """
    generated, real = generated.float(), real.float()
    cell = mouth_region_size // COLOUR_MAP_CELLS
    ring = _ring_mask(mouth_region_size).to(generated.device)
    difference = F.avg_pool2d(real - generated, cell) * ring
    kernel = _spread_kernel().to(generated.device)
    spread = _blur(difference, kernel) / _blur(ring, kernel)
    shift = F.interpolate(spread, size=generated.shape[-2:], mode="bilinear", align_corners=False)
    return (generated + shift.clamp(-MAX_COLOUR_SHIFT, MAX_COLOUR_SHIFT)).clamp(0, 1)


def first_visible_row(mouth_region_size: int) -> int:
    """First row of the network's crop that is used by the blendings "feather" and "face"; a multiple of 4."""
    return mouth_region(mouth_region_size)[0].start - mouth_region_size // 8


def _ring_mask(mouth_region_size: int) -> torch.Tensor:
    """[1, 1, h, w] on the colour grid: 1 in a ring of m/8 pixels round the masked square."""
    height, width = (size // (mouth_region_size // COLOUR_MAP_CELLS) for size in network_size(mouth_region_size))
    rows, columns = mouth_region(COLOUR_MAP_CELLS)
    margin = COLOUR_MAP_CELLS // 8
    mask = torch.zeros(1, 1, height, width)
    mask[..., rows.start - margin : rows.stop + margin, columns.start - margin : columns.stop + margin] = 1
    mask[..., rows, columns] = 0
    return mask


def _spread_kernel() -> torch.Tensor:
    """Gaussian weights [2k + 1]; wide enough that the middle of the square still sees all four sides of the ring."""
    reach = 2 * COLOUR_MAP_CELLS
    return torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / (COLOUR_MAP_CELLS / 4)) ** 2)


def _blur(maps: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    channels = maps.shape[1]
    reach = len(kernel) // 2
    down = kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    across = kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    maps = F.conv2d(maps, down, padding=(reach, 0), groups=channels)
    return F.conv2d(maps, across, padding=(0, reach), groups=channels)


def paste(
    patch: np.ndarray, box: CropBox, patch_box: CropBox, generated: np.ndarray, mask: PasteMask, weight: float
) -> CropBox | None:
    """Blend a generated crop into part of a frame.

    Args:
        patch: uint8 [h, w, 3], the part of the frame at `patch_box`; changed in place.
        box: where the crop lies in the frame; may leave the frame.
        patch_box: where the patch lies in the frame, on even pixels.
        generated: uint8 [box.height, box.width, 3].
        mask: weights of the generated face for the box's radius.
        weight: 0 .. 1, scales the mask (cross-fade to the untouched frame).

    Returns:
        The part of the frame that may have changed, on even pixels; None where nothing was to be pasted.
    """
    first_row, first_column = box.top + mask.rows.start, box.left + mask.columns.start
    top, bottom = max(first_row, patch_box.top), min(box.top + mask.rows.stop, patch_box.bottom)
    left, right = max(first_column, patch_box.left), min(box.left + mask.columns.stop, patch_box.right)
    if top >= bottom or left >= right:
        return None
    target = patch[top - patch_box.top : bottom - patch_box.top, left - patch_box.left : right - patch_box.left]
    source = generated[top - box.top : bottom - box.top, left - box.left : right - box.left]
    alpha = mask.alpha[top - first_row : bottom - first_row, left - first_column : right - first_column]
    old = target.astype(np.float32)
    np.copyto(target, np.rint(old + alpha * weight * (source - old)), casting="unsafe")
    return CropBox(top // 2 * 2, (bottom + 1) // 2 * 2, left // 2 * 2, (right + 1) // 2 * 2)


def paste_face(
    yuv: np.ndarray, crop: FaceCrop, face: np.ndarray, mask: PasteMask, weight: float, colour: Colour
) -> np.ndarray:
    """Return a copy of the frame with a generated face in its crop; pixels outside the mask keep their exact value.

    Args:
        yuv: uint8 [H * 3 // 2, W], the frame that `crop` was cut from.
        crop: the crop.
        face: uint8 [h, w, 3] in RGB, the generated crop at the network's size.
        mask: where to paste, for the crop's radius.
        weight: 0 .. 1, scales the mask.
        colour: how the frame's YUV is to be understood.
    """
    result = yuv.copy()
    patch = crop.patch.copy()
    generated = resize_image(face, crop.box.height, crop.box.width)
    changed = paste(patch, crop.box, crop.patch_box, generated, mask, weight)
    if changed is not None:
        top, left = changed.top - crop.patch_box.top, changed.left - crop.patch_box.left
        part = patch[top : top + changed.height, left : left + changed.width]
        set_rgb_patch(result, changed.top, changed.left, np.ascontiguousarray(part), colour)
    return result
