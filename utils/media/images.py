"""Still images: files, arrays and tensors.

PyTorch is imported where it is needed only: data preparation starts processes that do without it.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from utils.files import open_regular_file
from utils.media.limits import current_limits

if TYPE_CHECKING:
    import torch

JPEG_QUALITY = 95
GRID_GAP = 2
"""Pixels between the images of a grid."""


def write_jpeg(path: Path, rgb: np.ndarray, quality: int = JPEG_QUALITY) -> None:
    """Write uint8 RGB [h, w, 3] as JPEG."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    path.write_bytes(data)


def write_png(path: Path, rgb: np.ndarray) -> None:
    """Write uint8 RGB [h, w, 3] as PNG, whatever the name's ending."""
    _, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    path.write_bytes(data)


def read_image(path: Path, max_pixels: int | None = None) -> np.ndarray | None:
    """Return an image file as uint8 RGB [h, w, 3], or None if it cannot be decoded or has more than `max_pixels`.

    Raises:
        OSError: no regular file that can be read.
    """
    with os.fdopen(open_regular_file(path), "rb") as file:
        data = file.read()
    width, height = image_size(data)
    if not data or width * height > (max_pixels or current_limits().max_pixels):
        return None
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # an image of another kind, larger than OpenCV accepts
        return None
    return None if bgr is None else cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def image_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) that the header of a JPEG or PNG file states; (0, 0) for other files."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    position = 2
    while data.startswith(b"\xff\xd8") and len(marker := data[position : position + 9]) == 9 and marker[0] == 0xFF:
        if marker[1] == 0xFF:  # padding
            position += 1
        elif 0xC0 <= marker[1] <= 0xCF and marker[1] not in (0xC4, 0xC8, 0xCC):  # start of a frame
            return int.from_bytes(marker[7:9], "big"), int.from_bytes(marker[5:7], "big")
        else:
            position += 2 + int.from_bytes(marker[2:4], "big")
    return 0, 0


def resize_image(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize [h, w, 3] without aliasing when shrinking and without blocks when enlarging."""
    if image.shape[:2] == (height, width):
        return image
    shrinking = height < image.shape[0]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC)


def crops_to_tensor(crops: np.ndarray, device: "torch.device") -> "torch.Tensor":
    """Return float32 [B, 3, H, W] in [0, 1] from uint8 [B, H, W, 3]."""
    import torch

    return torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).float().div_(255)


def tensor_to_crops(images: "torch.Tensor") -> np.ndarray:
    """Return uint8 [B, H, W, 3] from float [B, 3, H, W] in [0, 1]."""
    return images.mul(255).round_().clamp_(0, 255).byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()


def image_grid(rows: "torch.Tensor") -> np.ndarray:
    """Images [N, K, 3, H, W] in [0, 1] as one, uint8 RGB, in N rows and K columns with gaps between them."""
    import torch.nn.functional as F

    framed = F.pad(rows.float(), (GRID_GAP, 0, GRID_GAP, 0))
    count, columns, _, height, width = framed.shape
    grid = framed.permute(0, 3, 1, 4, 2).reshape(count * height, columns * width, 3)
    return grid.mul(255).round_().clamp_(0, 255).byte().cpu().numpy()
