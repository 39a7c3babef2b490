"""Networks, batches and lip supervision for tests of training steps."""

import torch
from golden.networks import (
    BATCH,
    HEIGHT,
    WIDTH,
    normal_tensor,
    uniform_tensor,
    vgg_weights,
)

from models.perceptual import PerceptualNetwork
from utils.distributed import DistInfo
from utils.training.lip_supervision import LipSupervision
from utils.training.networks import TrainingNetworks
from utils.training.settings import LipSupervisionSettings, OptimisationSettings

CPU = torch.device("cpu")


def trained(networks: dict[str, torch.nn.Module], **settings) -> TrainingNetworks:
    return TrainingNetworks(networks, dict.fromkeys(networks, 1e-4), OptimisationSettings(**settings), DistInfo(), CPU)


def supervision(
    regressor: torch.nn.Module,
    audio2lip: torch.nn.Module | None = None,
    weight: float = 0.3,
    amplitude: float = 1.0,
    unpaired: float = 0.0,
) -> LipSupervision:
    settings = LipSupervisionSettings(lamb_lips=weight, lip_amplitude=amplitude, unpaired_audio=unpaired)
    return LipSupervision(settings, regressor, audio2lip)


def tiny_perceptual() -> PerceptualNetwork:
    return PerceptualNetwork({key: value for key, value in vgg_weights().items() if key.startswith("features.0.")})


def frame_batch(seed: int = 1100) -> dict[str, torch.Tensor]:
    return {
        "source": uniform_tensor(seed, BATCH, 3, HEIGHT, WIDTH),
        "reference": uniform_tensor(seed + 1, BATCH, 15, HEIGHT, WIDTH),
        "audio": normal_tensor(seed + 2, BATCH, 29, 5),
    }
