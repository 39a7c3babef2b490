"""Networks with the weights of the golden files."""

from functools import cache
from typing import TypeVar

import torch
from torch import nn

from golden.formula import normal, uniform, weight
from models.dinet import DINet
from models.discriminator import Discriminator
from models.perceptual import VGG16_CONVS, VGG19_CONVS
from models.syncnet import SyncNet

BATCH, HEIGHT, WIDTH, MOUTH = 2, 104, 80, 64
Network = TypeVar("Network", bound=nn.Module)


def formula_weights(network: Network) -> Network:
    """`network` with the weights that the formula gives for its state-dict keys."""
    network.load_state_dict(
        {key: torch.from_numpy(weight(key, tuple(value.shape))) for key, value in network.state_dict().items()}
    )
    return network


@cache
def _formula_state(kind: type[nn.Module], *arguments: int) -> dict[str, torch.Tensor]:
    return formula_weights(kind(*arguments)).state_dict()


def _network(kind: type[Network], *arguments: int) -> Network:
    network = kind(*arguments)
    network.load_state_dict(_formula_state(kind, *arguments))
    return network


def generator() -> DINet:
    return _network(DINet)


def discriminator(channels: int) -> Discriminator:
    return _network(Discriminator, channels)


def syncnet() -> SyncNet:
    return _network(SyncNet)


@cache
def vgg_weights(name: str = "VGG19") -> dict[str, torch.Tensor]:
    """Formula weights of a whole VGG in torchvision's layout."""
    stages = {"VGG16": VGG16_CONVS, "VGG19": VGG19_CONVS}[name]
    weights, cin = {}, 3
    for indices, cout in zip(stages, (64, 128, 256, 512, 512), strict=True):
        for index in indices:
            for leaf, shape in (("weight", (cout, cin, 3, 3)), ("bias", (cout,))):
                key = f"features.{index}.{leaf}"
                weights[key] = torch.from_numpy(weight(key, shape))
            cin = cout
    return weights


def uniform_tensor(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(uniform(seed, shape))


def normal_tensor(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(normal(seed, shape))


def generator_inputs(seed: int = 1000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Source, reference and audio of the `forward` file."""
    return (
        uniform_tensor(seed, BATCH, 3, HEIGHT, WIDTH),
        uniform_tensor(seed + 1, BATCH, 15, HEIGHT, WIDTH),
        normal_tensor(seed + 2, BATCH, 29, 5),
    )
