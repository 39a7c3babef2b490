"""A trained network in its quickest form: norms folded, less arithmetic, the layout and number format of the device."""

import torch
import torch.nn.functional as F
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


class PhasedUpBlock(nn.Module):
    """An UpBlock without norm, in four convolutions of 2 x 2 on the small map instead of one of 3 x 3 on the large.

    Of the pixels under a 3 x 3 kernel, nearest neighbour upsampling has made two and one, or one and two, alike in
    each direction, depending on whether the output's row and column are even. Adding the weights of those that are
    alike leaves 16 products where there were 36; the result is the same but for rounding.

    Args:
        block: its convolution is 3 x 3 with padding 1.
    """

    def __init__(self, block: UpBlock):
        super().__init__()
        weight = block.conv.weight
        kernels = [_paired(half, 3) for half in _paired(weight, 2)]
        self.kernels = nn.ParameterList([kernel for pair in kernels for kernel in pair])
        self.bias = block.conv.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, cin, H, W] to [B, cout, 2 H, 2 W]."""
        batch, _, height, width = x.shape
        shape = (batch, self.kernels[0].shape[0], 2 * height, 2 * width)
        result = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        for number, kernel in enumerate(self.kernels):
            down, across = divmod(number, 2)
            part = F.conv2d(x, kernel, self.bias, padding=1)[..., down : down + height, across : across + width]
            result[..., down::2, across::2] = part
        return F.relu(result, inplace=True)


def _paired(weight: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Kernels of two for the even and the odd outputs along `dim`, from one of three."""
    first, middle, last = weight.split(1, dim)
    return torch.cat([first, middle + last], dim), torch.cat([first + middle, last], dim)


@torch.no_grad()
def _phase_up_blocks(network: nn.Module) -> None:
    """Replace the UpBlocks inside, in place; their norms have been folded."""
    for name, part in network.named_children():
        if isinstance(part, UpBlock):
            setattr(network, name, PhasedUpBlock(part))
        else:
            _phase_up_blocks(part)


def to_inference_form(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Bring a network into the form for inference, in place; gives it back.

    Args:
        network: fit for nothing else afterwards.
        device: where it is to run.
        dtype: number format of its convolutions, and of the inputs it then takes.
    """
    network.eval().requires_grad_(False)
    fold_norms(network)
    _phase_up_blocks(network)
    network.to(device, dtype, memory_format=torch.channels_last)
    # The norms that are left, and the coordinates that AdaAT computes, need float32's precision.
    for part in network.modules():
        if isinstance(part, (AdaAT, *_NORMS)):
            part.to(torch.promote_types(dtype, torch.float32))
    return network
