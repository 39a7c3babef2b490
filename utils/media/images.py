"""Still pictures, in and out."""

from pathlib import Path

import cv2
import numpy as np

JPEG_QUALITY = 95


def write_jpeg(path: Path, rgb: np.ndarray, quality: int = JPEG_QUALITY) -> None:
    """Write uint8 RGB [h, w, 3] as JPEG."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    path.write_bytes(data)


def write_png(path: Path, rgb: np.ndarray) -> None:
    """Write uint8 RGB [h, w, 3] as PNG, whatever the name's ending."""
    _, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    path.write_bytes(data)


def read_picture(path: Path) -> np.ndarray | None:
    """Return a picture file as uint8 RGB [h, w, 3], or None if it cannot be decoded."""
    data = np.fromfile(path, np.uint8)
    bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    return None if bgr is None else cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def resize_picture(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize [h, w, 3] without aliasing when shrinking and without blocks when enlarging."""
    if picture.shape[:2] == (height, width):
        return picture
    shrinking = height < picture.shape[0]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC)
