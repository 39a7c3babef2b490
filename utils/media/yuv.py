"""8-bit planar YUV (I420): what its numbers mean, its planes, and RGB patches of it.

Only the patch around the mouth goes through RGB, so that the dubbing changes nothing else of a frame.
"""

from dataclasses import dataclass

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation

UNSPECIFIED = 2  # in ffmpeg's enums of matrix, primaries and transfer alike
BT709 = 1

# Sharp chroma for whole frames. For patches one chroma sample stands for its 2x2 pixels, copied on the way to RGB and
# averaged on the way back: YUV -> RGB -> YUV is then the identity wherever RGB does not clip.
_PRECISE = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
WHOLE_FRAME = int(Interpolation.BICUBIC | _PRECISE)
_PATCH_TO_RGB = int(Interpolation.POINT | _PRECISE)
_PATCH_TO_YUV = int(Interpolation.AREA | _PRECISE)

# ffmpeg's AVColorSpace -> swscale's table. Everything else, unspecified too, is BT.601 both ways: what ffmpeg and
# OpenCV take it for, and so what the networks' training frames were decoded with.
_SWSCALE_MATRIX = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}


_LUMA_WEIGHTS = {  # of red and blue, for the same matrices
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
    None: (0.299, 0.114),
}


@dataclass(frozen=True)
class Colour:
    """How the YUV of a file is to be understood, as integers of ffmpeg's enums (2 = unspecified)."""

    matrix: int
    primaries: int
    transfer: int

    @property
    def swscale_matrix(self) -> int:
        """The matrix by which swscale converts between this YUV and RGB."""
        return int(_SWSCALE_MATRIX.get(self.matrix, Colorspace.ITU601))


def i420_shape(width: int, height: int) -> tuple[int, int]:
    """Return (rows, columns) of the array that holds an I420 frame; width and height are even."""
    return height * 3 // 2, width


def luma_height(yuv: np.ndarray) -> int:
    """Return the height in pixels of an I420 frame, uint8 [H * 3 // 2, W]."""
    return yuv.shape[0] * 2 // 3


def rgb_patch(yuv: np.ndarray, top: int, bottom: int, left: int, right: int, colour: Colour) -> np.ndarray:
    """Return rows top:bottom, columns left:right of an I420 frame as RGB, uint8 [h, w, 3].

    Args:
        yuv: uint8 [H * 3 // 2, W], limited range.
        top: even, like the other bounds, which lie inside the frame.
        bottom: one past the last row.
        left: first column.
        right: one past the last column.
        colour: of the file the frame is from.
    """
    planes = _patch(yuv, top, bottom, left, right)
    patch = np.concatenate([plane.reshape(-1) for plane in planes]).reshape(-1, right - left)
    rgb = av.VideoFrame.from_ndarray(patch, "yuv420p").reformat(
        format="rgb24",
        src_colorspace=colour.swscale_matrix,
        dst_colorspace=colour.swscale_matrix,
        src_color_range=int(ColorRange.MPEG),
        dst_color_range=int(ColorRange.JPEG),
        interpolation=_PATCH_TO_RGB,
        threads=1,
    )
    return np.ascontiguousarray(rgb.to_ndarray())


def set_rgb_patch(yuv: np.ndarray, top: int, left: int, rgb: np.ndarray, colour: Colour) -> None:
    """Draw RGB, uint8 [h, w, 3], on an I420 frame, in place; the inverse of `rgb_patch`.

    Args:
        yuv: uint8 [H * 3 // 2, W], limited range, writable.
        top: first row, even, like `left`, h and w.
        left: first column.
        rgb: the patch; must lie inside the frame.
        colour: of the file the frame is from.
    """
    height, width = rgb.shape[:2]
    targets = _patch(yuv, top, top + height, left, left + width)
    patch = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24").reformat(
        format="yuv420p",
        src_colorspace=colour.swscale_matrix,
        dst_colorspace=colour.swscale_matrix,
        src_color_range=int(ColorRange.JPEG),
        dst_color_range=int(ColorRange.MPEG),
        interpolation=_PATCH_TO_YUV,
        threads=1,
    )
    for plane, target in zip(patch.planes, targets, strict=True):
        target[:] = plane_samples(plane)


def _patch(yuv: np.ndarray, top: int, bottom: int, left: int, right: int) -> list[np.ndarray]:
    """Views of the patch in each of the three planes."""
    height, width = luma_height(yuv), yuv.shape[1]
    inside = 0 <= top < bottom <= height and 0 <= left < right <= width
    if not inside or any(bound % 2 for bound in (top, bottom, left, right)):
        raise ValueError(f"rows {top}:{bottom}, columns {left}:{right} are odd or outside {width}x{height}")
    return [
        plane[top // step : bottom // step, left // step : right // step]
        for plane, step in zip(planes(yuv), (1, 2, 2), strict=True)
    ]


def planes(yuv: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Views of Y [H, W], U and V [H // 2, W // 2] in a contiguous I420 array."""
    height, width = luma_height(yuv), yuv.shape[1]
    if not yuv.flags.c_contiguous:
        raise ValueError("an I420 frame must be contiguous to be seen as three planes")
    chroma = yuv[height:].reshape(2, height // 2, width // 2)
    return yuv[:height], chroma[0], chroma[1]


def plane_samples(plane: av.video.plane.VideoPlane) -> np.ndarray:
    """A plane of 8-bit samples, uint8 [rows, columns], without the padding of its lines; a view."""
    lines = np.frombuffer(plane, np.uint8).reshape(-1, abs(plane.line_size))
    if plane.line_size < 0:  # stored from the bottom up
        lines = lines[::-1]
    return lines[: plane.height, : plane.width]


def is_full_range(picture: av.VideoFrame) -> bool:
    """Whether the samples of a picture go from 0 to 255, not from 16 to 235."""
    name = picture.format.name
    if picture.color_range == ColorRange.UNSPECIFIED:
        return name.startswith(("yuvj", "gray"))
    return picture.color_range == ColorRange.JPEG


def colour_of(picture: av.VideoFrame) -> Colour:
    """The tags of a file's YUV, kept as they are, or BT.709 for one made here from RGB."""
    tags = picture.colorspace, picture.color_primaries, picture.color_trc
    if picture.format.is_rgb or picture.format.has_palette:
        return Colour(BT709, *(BT709 if tag in (0, UNSPECIFIED) else tag for tag in tags[1:]))
    # 0 is "RGB" as a matrix and reserved as the others
    return Colour(*(UNSPECIFIED if tag == 0 else tag for tag in tags))


def rgb_to_yuv_matrix(colour: Colour) -> np.ndarray:
    """Float32 [3, 3]: changes of (R, G, B) in levels of 0 .. 255 to changes of (Y, U, V) in limited range.

    ITU-R BT.601 section 2.5, with the luma weights of the file's matrix.
    """
    red, blue = _LUMA_WEIGHTS.get(colour.matrix, _LUMA_WEIGHTS[None])
    luma = np.array([red, 1 - red - blue, blue])
    to_blue = (np.array([0, 0, 1]) - luma) / (2 * (1 - blue))
    to_red = (np.array([1, 0, 0]) - luma) / (2 * (1 - red))
    return np.stack([luma * 219, to_blue * 224, to_red * 224]).astype(np.float32) / 255
