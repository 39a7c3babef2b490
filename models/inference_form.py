"""A trained network in the form that is quickest to run: norms folded, layout and number format of the device."""

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .blocks import DownBlock, ResBlock, SameBlock, UpBlock
from .dinet import AdaAT

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@torch.no_grad()
def fold_norms(network: nn.Module) -> None:
    """Fold the norms of all blocks, in place; the network is good for inference only afterwards.

    The first norm of a ResBlock stays: a ReLU lies between it and the convolution.

    Raises:
        RuntimeError: the network is in training mode.
    """
    if network.training:
        raise RuntimeError("norms can be folded in eval mode only: in training they depend on the batch")
    for block in network.modules():
        if isinstance(block, (SameBlock, DownBlock, UpBlock)) and isinstance(block.norm, _NORMS):
            block.conv = fuse_conv_bn_eval(block.conv, block.norm)
            block.norm = nn.Identity()
        elif isinstance(block, ResBlock) and isinstance(block.norm2, _NORMS):
            block.conv1 = fuse_conv_bn_eval(block.conv1, block.norm2)
            block.norm2 = nn.Identity()


def to_inference_form(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Bring a network into the form for inference, in place; gives it back.

    Args:
        network: fit for nothing else afterwards.
        device: where it is to run.
        dtype: number format of its convolutions, and of the inputs it then takes.
    """
    network.eval().requires_grad_(False)
    fold_norms(network)
    network.to(device, dtype, memory_format=torch.channels_last)
    # The norms that are left, and the coordinates that AdaAT computes, need float32's precision.
    for part in network.modules():
        if isinstance(part, (AdaAT, *_NORMS)):
            part.to(torch.promote_types(dtype, torch.float32))
    return network
