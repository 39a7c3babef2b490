"""The mouth reader that comes with DINet, on a real face (NASA's portrait of Eileen Collins, public domain)."""

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from utils.dubbing import mouth_reader
from utils.dubbing.mouth_reader import load_mouth_reader
from utils.errors import UserError
from utils.face.crop_geometry import network_size

CPU = torch.device("cpu")
RADIUS, MOUTH = 45, (222, 140)


def crop(size: int, narrowing: float = 1.0) -> torch.Tensor:
    """A face crop [1, 3, H, W] of the portrait, its lips `narrowing` times as wide as they are."""
    picture = data.astronaut()
    x, y = MOUTH
    lips = np.s_[y - 12 : y + 12, x - 24 : x + 24]
    width = round(48 * narrowing)
    narrow = cv2.resize(picture[lips], (width, 24))
    picture[lips] = picture[y + 12 : y + 16, x - 10 : x + 10].mean((0, 1))
    picture[y - 12 : y + 12, x - width // 2 : x - width // 2 + width] = narrow
    top = y - round(2 * RADIUS)  # the middle of the mouth region lies 2 radii below the upper edge of the crop
    part = picture[top : top + round(3.25 * RADIUS), x - round(1.25 * RADIUS) : x + round(1.25 * RADIUS)]
    height, width = network_size(size)
    resized = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA if size == 64 else cv2.INTER_LINEAR)
    return torch.from_numpy(resized).permute(2, 0, 1)[None].float() / 255


def test_lips_that_are_made_narrower_are_read_so():
    read = load_mouth_reader(CPU)
    width = [read(crop(64, narrowing), 64)[0, 1] for narrowing in (0.7, 0.8, 0.9, 1.0)]
    assert width == sorted(width)
    assert width[-1] - width[0] > 0.4


def test_the_size_of_the_network_hardly_matters():
    read = load_mouth_reader(CPU)
    small, large = (read(crop(size), size) for size in (64, 256))
    assert small.shape == (1, 2) and small.dtype == np.float32
    assert small == pytest.approx(large, abs=0.5)


def test_a_missing_file_is_named_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(mouth_reader, "SHIPPED_MOUTH_READER", tmp_path / "mouth_reader.pth")
    load_mouth_reader.cache_clear()
    with pytest.raises(UserError, match=r"--blend face: .*mouth_reader\.pth .*--blend feather"):
        load_mouth_reader(CPU)
