"""Face crops at the network's size: read one by one, or all kept in memory."""

import logging
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import torch
from tqdm import tqdm

from utils.errors import UserError
from utils.executors import usable_cores
from utils.media.images import read_image, resize_image

logger = logging.getLogger(__name__)


class UnreadableCropError(Exception):
    """A crop that is missing or broken; the message is one line that names the file."""


class Crops(Protocol):
    """Source of the samples' images."""

    def take(self, paths: Sequence[str]) -> torch.Tensor:
        """What a sample stores of these crops, first dimension K; raises UnreadableCropError."""

    def images(self, taken: torch.Tensor, device: torch.device) -> torch.Tensor:
        """The images of a batch of what was taken, [B, K, ...]: uint8 RGB [B, K, H, W, 3] on the device."""


class CropFiles:
    """Reads crops when they are needed. `size` is (height, width) in pixels."""

    def __init__(self, size: tuple[int, int]):
        self.size = size

    def take(self, paths: Sequence[str]) -> torch.Tensor:
        """The crops, uint8 [K, H, W, 3]."""
        return torch.stack([self._read(path) for path in paths])

    def _read(self, path: str) -> torch.Tensor:
        try:
            image = read_image(Path(path))
        except OSError as error:
            raise UnreadableCropError(f"{path} cannot be read ({error.strerror})") from None
        if image is None:
            raise UnreadableCropError(f"{path} is not a complete image")
        return torch.from_numpy(resize_image(image, *self.size))

    def images(self, taken: torch.Tensor, device: torch.device) -> torch.Tensor:
        """See Crops."""
        return taken.to(device, non_blocking=True)


class CropMemory:
    """All crops, decoded once and kept in the memory of the machine, or of the device that trains.

    Args:
        paths: all crops that are needed.
        size: (height, width) in pixels.
        device: where they are kept.

    Raises:
        UserError: they do not fit.
    """

    def __init__(self, paths: Sequence[str], size: tuple[int, int], device: torch.device):
        needed, there = len(paths) * size[0] * size[1] * 3, _memory(device)
        if needed > there:
            raise UserError(
                f"--cache: {len(paths)} crops need {needed / 2**30:.1f} GiB, of {there / 2**30:.1f} GiB "
                f"({device.type}); use --cache none"
            )
        self._files = CropFiles(size)
        self._stack = torch.empty((len(paths), *size, 3), dtype=torch.uint8, device=device)
        self._rows = {path: row for row, path in enumerate(paths)}
        self._unreadable: dict[str, str] = {}
        with ThreadPoolExecutor(usable_cores()) as pool:  # OpenCV releases the GIL while it decodes
            list(tqdm(pool.map(self._load, paths), "reading crops", len(paths), unit="crop", disable=None))

    def _load(self, path: str) -> None:
        try:
            self._stack[self._rows[path]] = self._files.take([path])[0]
        except UnreadableCropError as error:
            self._unreadable[path] = str(error)

    def take(self, paths: Sequence[str]) -> torch.Tensor:
        """The crops, uint8 [K, H, W, 3]; or, if they are kept on a GPU, only their indices, int64 [K]."""
        for path in paths:
            if path in self._unreadable:
                raise UnreadableCropError(self._unreadable[path])
        rows = torch.tensor([self._rows[path] for path in paths])
        return self._stack[rows] if self._stack.device.type == "cpu" else rows

    def images(self, taken: torch.Tensor, device: torch.device) -> torch.Tensor:
        """See Crops."""
        taken = taken.to(device, non_blocking=True)
        return taken if taken.dtype == torch.uint8 else self._stack[taken]


def _memory(device: torch.device) -> int:
    """Free bytes of a GPU; all bytes of the machine, because its file cache hides the free ones."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else sys.maxsize
