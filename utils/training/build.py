"""The networks that are trained together in the DINet stages: generator and discriminators."""

from types import MethodType

import torch
from torch import nn

from models.dinet import FEATURE_CHANNELS, DINet
from models.discriminator import Discriminator
from models.losses import CLIP_FRAMES
from utils.checkpoints import Metadata
from utils.distributed import DistInfo
from utils.training.networks import TrainingNetworks
from utils.training.settings import DINetSettings, NetworkSettings, OptimisationSettings


def make_training_networks(
    sizes: NetworkSettings,
    dinet: DINetSettings,
    optimisation: OptimisationSettings,
    metadata: Metadata,
    seed: int,
    dist_info: DistInfo,
    device: torch.device,
    clip: bool = False,
) -> TrainingNetworks:
    """The networks of a DINet stage, ready to be trained.

    Args:
        sizes: sizes, and what is frozen.
        dinet: learning rates: lr_g of the generator, lr_dI of the discriminators.
        optimisation: see OptimisationSettings.
        metadata: channels of the speech features, and the limit of net_g's audio embeddings.
        seed: sets PyTorch's random state, from which the initial weights are drawn.
        dist_info: of the distributed training.
        device: where to train.
        clip: make the clip discriminator net_dV, too.

    Raises:
        UserError: mixed precision that the device cannot do.
    """
    torch.manual_seed(seed)
    networks = make_dinet_networks(sizes, metadata.audio_channel, clip, metadata.max_audio_norm)
    rates = {name: dinet.lr_g if name == "net_g" else dinet.lr_dI for name in networks}
    return TrainingNetworks(networks, rates, optimisation, dist_info, device)


def make_dinet_networks(
    settings: NetworkSettings, audio_channel: int, clip: bool = False, max_audio_norm: float | None = None
) -> dict[str, nn.Module]:
    """The generator net_g and the frame discriminator net_dI.

    Args:
        settings: sizes, and what is frozen.
        audio_channel: channels of the speech features.
        clip: make the clip discriminator net_dV, too.
        max_audio_norm: limit of net_g's audio embeddings, as in dubbing; see Metadata.
    """
    feature_channel = settings.feature_channel or FEATURE_CHANNELS
    networks = {
        "net_g": DINet(settings.source_channel, settings.ref_channel, audio_channel, feature_channel),
        "net_dI": _discriminator(settings, settings.source_channel),
    }
    networks["net_g"].max_audio_norm = max_audio_norm
    if settings.freeze_audio_encoder:
        _freeze(networks["net_g"].audio_encoder)
    if settings.freeze_norms:
        _freeze_norms(networks["net_g"])
    if clip:
        networks["net_dV"] = _discriminator(settings, settings.source_channel * CLIP_FRAMES)
    return networks


def _freeze(part: nn.Module) -> None:
    """Exclude a part of a network from training, its norms in eval mode."""
    part.requires_grad_(False)
    part.train = MethodType(lambda self, mode=True: nn.Module.train(self, False), part)
    part.eval()


def _freeze_norms(network: nn.Module) -> None:
    """Keep a network's BatchNorms in eval mode while it is trained, also those that replace them later (wrap_ddp)."""

    def train(self: nn.Module, mode: bool = True) -> nn.Module:
        nn.Module.train(self, mode)
        for part in self.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()
        return self

    network.train = MethodType(train, network)


def _discriminator(settings: NetworkSettings, channels: int) -> Discriminator:
    return Discriminator(channels, settings.D_block_expansion, settings.D_num_blocks, settings.D_max_features)
