"""The networks that train together in the DINet stages."""

from dataclasses import dataclass
from types import MethodType

from torch import nn

from models.dinet import FEATURE_CHANNELS, DINet
from models.discriminator import Discriminator
from models.losses import CLIP_FRAMES


@dataclass(frozen=True)
class NetworkSettings:
    """Widths of the networks, and what of the generator is not trained; the names are those of the options."""

    source_channel: int = 3
    ref_channel: int = 15
    feature_channel: int = FEATURE_CHANNELS
    D_num_blocks: int = 4
    D_block_expansion: int = 64
    D_max_features: int = 256
    freeze_audio_encoder: bool = False
    freeze_norms: bool = False


def make_dinet_networks(settings: NetworkSettings, audio_channel: int, clip: bool = False) -> dict[str, nn.Module]:
    """The generator net_g and the frame discriminator net_dI; with `clip` the clip discriminator net_dV, too."""
    networks = {
        "net_g": DINet(settings.source_channel, settings.ref_channel, audio_channel, settings.feature_channel),
        "net_dI": _discriminator(settings, settings.source_channel),
    }
    if settings.freeze_audio_encoder:
        _freeze(networks["net_g"].audio_encoder)
    if settings.freeze_norms:
        _freeze_norms(networks["net_g"])
    if clip:
        networks["net_dV"] = _discriminator(settings, settings.source_channel * CLIP_FRAMES)
    return networks


def _freeze(part: nn.Module) -> None:
    """Keep a part of a network as it is, its norms in eval mode, while the rest is trained."""
    part.requires_grad_(False)
    part.train = MethodType(lambda self, mode=True: nn.Module.train(self, False), part)
    part.eval()


def _freeze_norms(network: nn.Module) -> None:
    """Keep the statistics of a network's norms, whichever modules these are replaced by, while it is trained."""

    def train(self: nn.Module, mode: bool = True) -> nn.Module:
        nn.Module.train(self, mode)
        for part in self.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()
        return self

    network.train = MethodType(train, network)


def _discriminator(settings: NetworkSettings, channels: int) -> Discriminator:
    return Discriminator(channels, settings.D_block_expansion, settings.D_num_blocks, settings.D_max_features)
