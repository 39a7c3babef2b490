"""LPIPS and FID by torchmetrics, if the weights of their networks are on this computer. Nothing is downloaded."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # loaded where a network is, so that an evaluation without networks starts at once
    import torch


@dataclass(frozen=True)
class WeightFile:
    """Weights that a metric needs: the file's name in torch.hub's folder, and where to get it."""

    name: str
    address: str

    @property
    def path(self) -> Path:
        """Where torch.hub keeps it: the path of torch.hub.get_dir, without loading PyTorch."""
        cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
        home = os.environ.get("TORCH_HOME", f"{cache}/torch")
        return Path(home).expanduser() / "hub" / "checkpoints" / self.name

    def missing(self, metric: str) -> str | None:
        """One line that says what to do, or None if the file is there."""
        if self.path.is_file():
            return None
        return f"{metric} needs {self.name} from {self.address} in {self.path.parent}"


ALEXNET = WeightFile("alexnet-owt-7be5be79.pth", "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth")
INCEPTION = WeightFile(
    "weights-inception-2015-12-05-6726825d.pth",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
)


def _tensor(images: list[np.ndarray], device: "torch.device") -> "torch.Tensor":
    """uint8 [B, 3, h, w] from uint8 RGB [h, w, 3] each."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))).to(device)


class PerceptualDistance:
    """Mean LPIPS (Zhang et al. 2018, AlexNet, version 0.1) of image pairs, 0 for equal ones; needs ALEXNET."""

    def __init__(self, device: "torch.device"):
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        self._device = device
        self._distance = LearnedPerceptualImagePatchSimilarity("alex", normalize=True).to(device)

    def add(self, true: list[np.ndarray], other: list[np.ndarray]) -> None:
        """Take pairs of images, uint8 RGB [h, w, 3]."""
        import torch

        with torch.inference_mode():
            self._distance.update(_tensor(other, self._device) / 255, _tensor(true, self._device) / 255)

    def value(self) -> float:
        """Mean over the pairs since the last call; NaN without any."""
        mean = float(self._distance.compute()) if self._distance.update_called else float("nan")
        self._distance.reset()
        return mean


class FrechetDistance:
    """FID (Heusel et al. 2017, Inception 2015-12-05, 2048 features) of two sets of images; needs INCEPTION."""

    def __init__(self, device: "torch.device"):
        from torchmetrics.image.fid import FrechetInceptionDistance

        self._device = device
        self._distance = FrechetInceptionDistance(2048, feature_extractor_weights_path=str(INCEPTION.path)).to(device)
        self._images = 0

    def add(self, true: list[np.ndarray], other: list[np.ndarray]) -> None:
        """Take images of both sets, uint8 RGB [h, w, 3]."""
        self._distance.update(_tensor(true, self._device), real=True)
        self._distance.update(_tensor(other, self._device), real=False)
        self._images += len(true)

    def value(self) -> float:
        """The distance so far; NaN with fewer than two images."""
        return float(self._distance.compute()) if self._images > 1 else float("nan")
