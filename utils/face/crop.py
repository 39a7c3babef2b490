"""Face crops cut out of frames. Without PyTorch, so that workers of the data preparation start quickly."""

from dataclasses import dataclass

import cv2
import numpy as np

from utils.face.crop_geometry import CropBox
from utils.media.images import resize_image
from utils.media.yuv import Colour, rgb_patch


@dataclass(frozen=True)
class FaceCrop:
    """A face cut out of a frame.

    `box` is where the crop lies (it may leave the frame), `patch_box` the part of it inside the frame, on even pixels
    because chroma has half resolution; `patch` is uint8 RGB [patch_box.height, patch_box.width, 3].
    """

    box: CropBox
    patch_box: CropBox
    patch: np.ndarray

    def resized(self, height: int, width: int) -> np.ndarray:
        """The crop as uint8 [height, width, 3]; what lies outside the frame repeats the frame's edge."""
        outside = (
            self.patch_box.top - self.box.top,
            self.box.bottom - self.patch_box.bottom,
            self.patch_box.left - self.box.left,
            self.box.right - self.patch_box.right,
        )
        whole = self.patch
        if max(outside) > 0:
            whole = cv2.copyMakeBorder(whole, *[max(0, side) for side in outside], cv2.BORDER_REPLICATE)
        inner = whole[max(0, -outside[0]) :, max(0, -outside[2]) :][: self.box.height, : self.box.width]
        return resize_image(inner, height, width)


def cut_face(yuv: np.ndarray, box: CropBox, colour: Colour) -> FaceCrop:
    """Cut `box` out of a frame.

    Args:
        yuv: uint8 [H * 3 // 2, W], see utils.media.video_reader.Frame.
        box: where to cut; at least a part of it lies inside the frame.
        colour: tags of the frame's YUV.
    """
    frame_height, frame_width = yuv.shape[0] * 2 // 3, yuv.shape[1]
    patch_box = CropBox(
        top=max(box.top, 0) // 2 * 2,
        bottom=(min(box.bottom, frame_height) + 1) // 2 * 2,
        left=max(box.left, 0) // 2 * 2,
        right=(min(box.right, frame_width) + 1) // 2 * 2,
    )
    patch = rgb_patch(yuv, patch_box.top, patch_box.bottom, patch_box.left, patch_box.right, colour)
    return FaceCrop(box, patch_box, patch)
