"""The mouth reader as the dubbing engine calls it: opening and width of the lips that a face crop shows."""

from functools import lru_cache

import numpy as np
import torch

from models.lip_regressor import LipShapeRegressor
from utils.checkpoints import LIP_REGRESSOR, load_network, read_checkpoint
from utils.dubbing.settings import SHIPPED_MOUTH_READER
from utils.face.crop_geometry import mouth_region


class MouthReader:
    """Predicts opening and width of the lips.

    Args:
        network: a trained LipShapeRegressor.
        device: where to run it.
    """

    def __init__(self, network: LipShapeRegressor, device: torch.device):
        self._network = network.eval().to(device)
        self._device = device

    @torch.inference_mode()
    def __call__(self, faces: torch.Tensor, mouth_region_size: int) -> np.ndarray:
        """Opening and width of the lips, float32 [B, 2], of face crops [B, 3, H, W] in [0, 1]."""
        rows, columns = mouth_region(mouth_region_size)
        return self._network(faces[:, :, rows, columns].to(self._device)).cpu().numpy()


@lru_cache(maxsize=2)
def load_mouth_reader(device: torch.device) -> MouthReader:
    """The mouth reader that comes with DINet; it fits every generator, as it resizes its input.

    Raises:
        UserError: its file is missing or damaged.
    """
    option, hint = "--blend face", "restore this file of the repository, or use --blend feather"
    network = LipShapeRegressor()
    load_network(network, read_checkpoint(SHIPPED_MOUTH_READER, option, hint), LIP_REGRESSOR, option)
    return MouthReader(network, device)
