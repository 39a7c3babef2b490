"""Inference optimisation: fuse BatchNorm, less arithmetic, the memory layout and number format of the device."""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import skip_init
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .blocks import DownBlock, ResBlock, SameBlock, UpBlock
from .dinet import AdaAT, DINet
from .fast_conv import ALGORITHMS, FastConv2d, can_be_fast

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@torch.no_grad()
def fuse_batchnorm(network: nn.Module) -> None:
    """Fuse the norms of all blocks into their convolutions, in place; the network then serves inference only.

    The first norm of a ResBlock stays: a ReLU lies between it and the convolution.

    Raises:
        RuntimeError: the network is in training mode.
    """
    if network.training:
        raise RuntimeError("norms can be fused in eval mode only: in training they depend on the batch")
    for block in network.modules():
        if isinstance(block, (SameBlock, DownBlock, UpBlock)) and isinstance(block.norm, _NORMS):
            _fuse(block.conv, block.norm)
            block.norm = nn.Identity()
        elif isinstance(block, ResBlock) and isinstance(block.norm2, _NORMS):
            _fuse(block.conv1, block.norm2)
            block.norm2 = nn.Identity()


def _fuse(conv: nn.Module, norm: nn.Module) -> None:
    """Fuse the norm into the convolution, in place: `fuse_conv_bn_eval` without the copy."""
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )


class PolyphaseUpBlock(nn.Module):
    """An UpBlock without norm, as four 2 x 2 convolutions of the small map instead of one 3 x 3 of the enlarged map.

    After nearest-neighbour upsampling, two of the three pixels under a row or column of the kernel are equal: the first
    two or the last two, depending on whether the output's row or column is odd or even. Adding the weights of equal
    pixels leaves 16 products instead of 36; the result is the same but for rounding.

    Args:
        block: its convolution is 3 x 3 with padding 1.
        fast: compute the four as one `FastConv2d` with 3 x 3 kernels, padded with zeros; for CPUs.
        algorithms: see FastConv2d.
    """

    def __init__(self, block: UpBlock, fast: bool = False, algorithms: Collection[str] = ALGORITHMS):
        super().__init__()
        kernels = [_phase_kernels(half, 3) for half in _phase_kernels(block.conv.weight.detach(), 2)]
        self.kernels = nn.ParameterList([kernel for pair in kernels for kernel in pair])
        self.bias = block.conv.bias
        self.conv = FastConv2d(self._as_one(block.conv), self._phases, algorithms) if fast else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, cin, H, W] to [B, cout, 2 H, 2 W]."""
        batch, _, height, width = x.shape
        channels = len(self.kernels[0])
        layout = torch.channels_last if self.conv is None else torch.contiguous_format
        shape = (batch, channels, 2 * height, 2 * width)
        result = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
        if self.conv is not None:
            phases = self.conv(x).view(batch, 2, 2, channels, height, width).permute(0, 3, 4, 1, 5, 2)
            torch.clamp_min(phases, 0, out=result.view(batch, channels, height, 2, width, 2))
            return result
        for number in range(4):
            down, across = divmod(number, 2)
            result[..., down::2, across::2] = self._phase(x, number)
        return F.relu(result, inplace=True)

    def _phase(self, x: torch.Tensor, number: int) -> torch.Tensor:
        """Outputs of one parity of row and column, [B, cout, H, W]."""
        down, across = divmod(number, 2)
        result = F.conv2d(x, self.kernels[number], self.bias, padding=1)
        return result[..., down : down + x.shape[2], across : across + x.shape[3]]

    def _phases(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self._phase(x, number) for number in range(4)], 1)

    def _as_one(self, conv: nn.Conv2d) -> nn.Conv2d:
        """The four kernels as one convolution of 3 x 3 to 4 cout channels."""
        one = skip_init(nn.Conv2d, conv.in_channels, 4 * conv.out_channels, 3, padding=1)
        padded = []
        for number, kernel in enumerate(self.kernels):
            down, across = divmod(number, 2)
            padded.append(F.pad(kernel, (across, 1 - across, down, 1 - down)))
        one.weight = nn.Parameter(torch.cat(padded), requires_grad=False)
        one.bias = nn.Parameter(self.bias.detach().repeat(4), requires_grad=False)
        return one


def _phase_kernels(weight: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Kernels of two for the even and the odd outputs along `dim`, from one of three."""
    first, middle, last = weight.split(1, dim)
    return torch.cat([first, middle + last], dim), torch.cat([first + middle, last], dim)


class SplitSameBlock(nn.Module):
    """A SameBlock without norm whose input comes in two parts: see `SameBlock.partial`.

    Args:
        block: its norm is fused.
        first: input channels of the first part.
    """

    def __init__(self, block: SameBlock, first: int):
        super().__init__()
        whole = block.conv
        parts = [
            skip_init(
                nn.Conv2d, channels, whole.out_channels, whole.kernel_size, padding=whole.padding, bias=not number
            )
            for number, channels in enumerate((first, whole.in_channels - first))
        ]
        for part, weight in zip(parts, whole.weight.detach().split([first, whole.in_channels - first], 1), strict=True):
            part.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
        parts[0].bias = whole.bias
        self.parts = nn.ModuleDict({"0": parts[0], str(first): parts[1]})

    def partial(self, x: torch.Tensor, first: int) -> torch.Tensor:
        """See SameBlock."""
        return self.parts[str(first)](x)

    def activate(self, x: torch.Tensor) -> torch.Tensor:
        """See SameBlock."""
        return F.relu(x, inplace=True)


class MaskedEncoder(nn.Module):
    """A source encoder for images that are zero in the same region: features inside it are computed once.

    A feature at (i, j) depends on the pixels 4 i - 6 to 4 i + 6 and 4 j - 6 to 4 j + 6. Where all of these are masked
    it is the same for every image; of the rest, four strips are computed, a little wider than needed, because their own
    edges are padded.

    Args:
        encoder: `DINet.source_in_conv`.
        rows: pixels of the mask.
        columns: pixels of the mask.
    """

    def __init__(self, encoder: nn.Module, rows: slice, columns: slice):
        super().__init__()
        self.encoder = encoder
        self._constant = [range(-(-(part.start + 6) // 4), (part.stop - 7) // 4 + 1) for part in (rows, columns)]
        self._inside: dict[tuple[int, int], torch.Tensor] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Masked images [B, 3, H, W] to features [B, C, H / 4, W / 4]."""
        rows, columns = self._constant
        size = tuple(x.shape[-2:])
        if not rows or not columns:
            return self.encoder(x)
        if size not in self._inside:
            whole = self.encoder(x)
            self._inside[size] = whole[:1, :, rows.start : rows.stop, columns.start : columns.stop].clone()
            return whole
        inside = self._inside[size]
        height, width = size[0] // 4, size[1] // 4
        result = x.new_empty((len(x), inside.shape[1], height, width))
        result[:, :, rows.start : rows.stop, columns.start : columns.stop] = inside
        for down in (range(rows.start), rows, range(rows.stop, height)):
            across = (range(columns.start), range(columns.stop, width)) if down == rows else (range(width),)
            for part in across:
                result[:, :, down.start : down.stop, part.start : part.stop] = self._strip(x, down, part)
        return result

    def _strip(self, x: torch.Tensor, rows: range, columns: range) -> torch.Tensor:
        """Features of some rows and columns."""
        starts = [max(0, part.start - 2) for part in (rows, columns)]
        pixels = [slice(4 * start, 4 * (part.stop + 1)) for start, part in zip(starts, (rows, columns), strict=True)]
        features = self.encoder(x[:, :, pixels[0], pixels[1]])
        down, across = (part.start - start for start, part in zip(starts, (rows, columns), strict=True))
        return features[:, :, down : down + len(rows), across : across + len(columns)]


def assume_masked(network: DINet, rows: slice, columns: slice) -> None:
    """Let a network prepared by optimize_for_inference rely on sources that are zero in these pixels, in place."""
    network.source_in_conv = MaskedEncoder(network.source_in_conv, rows, columns)


@torch.no_grad()
def _polyphase_up_blocks(network: nn.Module, fast: bool, algorithms: Collection[str]) -> None:
    """Replace the UpBlocks inside, in place; their norms have been fused."""
    for name, part in network.named_children():
        if isinstance(part, UpBlock):
            setattr(network, name, PolyphaseUpBlock(part, fast, algorithms))
        else:
            _polyphase_up_blocks(part, fast, algorithms)


def _use_fast_convolutions(network: nn.Module, algorithms: Collection[str]) -> None:
    for name, part in network.named_children():
        if can_be_fast(part):
            setattr(network, name, FastConv2d(part, algorithms=algorithms))
        elif not isinstance(part, FastConv2d):
            _use_fast_convolutions(part, algorithms)


def optimize_for_inference(
    network: nn.Module, device: torch.device, dtype: torch.dtype, algorithms: Collection[str] = ALGORITHMS
) -> nn.Module:
    """Optimize a network for inference, in place, and return it: fused norms, fast convolutions, device and dtype.

    Args:
        network: can be used for inference only afterwards.
        device: where it runs.
        dtype: number format of its convolutions and inputs.
        algorithms: for float32 on a CPU, convolution algorithms besides the direct one; see FastConv2d.
    """
    network.eval()
    fuse_batchnorm(network)
    fast = device.type == "cpu" and dtype == torch.float32
    _polyphase_up_blocks(network, fast, algorithms)
    if isinstance(network, DINet):
        network.trans_conv[0] = SplitSameBlock(network.trans_conv[0], network.feature_channel)
    if fast:
        _use_fast_convolutions(network, algorithms)
    network.to(device, dtype, memory_format=torch.contiguous_format if fast else torch.channels_last)
    # The norms that are left, and the coordinates that AdaAT computes, need float32's precision.
    for part in network.modules():
        if isinstance(part, (AdaAT, *_NORMS)):
            part.to(torch.promote_types(dtype, torch.float32))
    return network.requires_grad_(False)
