"""Building blocks of every network: 1-d and 2-d, with and without normalisation.

Parameter names (`conv`, `norm`, `conv1`, `norm1`, ...) are those of the published weights.
`norm` is BatchNorm with PyTorch's default eps 1e-5 and momentum 0.1; without it the blocks have no such entry.
"""

import torch
import torch.nn.functional as F
from torch import nn

_CONV = {1: nn.Conv1d, 2: nn.Conv2d}
_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}


def _norm(channels: int, dims: int, norm: bool) -> nn.Module:
    return _NORM[dims](channels) if norm else nn.Identity()


class SameBlock(nn.Module):
    """Convolution of stride 1, norm, ReLU; keeps the size when `padding` is half the kernel."""

    def __init__(self, cin: int, cout: int, kernel: int, padding: int, *, dims: int = 2, norm: bool = True):
        super().__init__()
        self.conv = _CONV[dims](cin, cout, kernel, padding=padding)
        self.norm = _norm(cout, dims, norm)

    def activate(self, x: torch.Tensor) -> torch.Tensor:
        """Norm and ReLU alone, for a caller that has the convolution's result already (`x` may be overwritten)."""
        return F.relu(self.norm(x), inplace=True)

    def partial(self, x: torch.Tensor, first: int) -> torch.Tensor:
        """The convolution of some input channels, [B, n, ...] of `first` on; their share of the sum.

        The bias belongs to the share of channel 0.
        """
        conv = self.conv
        weight = conv.weight[:, first : first + x.shape[1]]
        return conv._conv_forward(x, weight, None if first else conv.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, cin, ...] to [B, cout, ...]."""
        return self.activate(self.conv(x))


class DownBlock(nn.Module):
    """Halves the size: convolution of stride 2, norm, ReLU; or, with `pool`, stride 1 and a 2x2 average pool."""

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int = 3,
        padding: int = 1,
        *,
        dims: int = 2,
        norm: bool = True,
        pool: bool = False,
    ):
        super().__init__()
        self.conv = _CONV[dims](cin, cout, kernel, stride=1 if pool else 2, padding=padding)
        self.norm = _norm(cout, dims, norm)
        self.pool = nn.AvgPool2d(2) if pool else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, cin, S, ...] to [B, cout, S / 2, ...]."""
        return self.pool(F.relu(self.norm(self.conv(x)), inplace=True))


class UpBlock(nn.Module):
    """Doubles the size: nearest neighbour x2, convolution, norm, ReLU."""

    def __init__(self, cin: int, cout: int, kernel: int = 3, padding: int = 1, *, dims: int = 2, norm: bool = True):
        super().__init__()
        self.conv = _CONV[dims](cin, cout, kernel, padding=padding)
        self.norm = _norm(cout, dims, norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, cin, S, ...] to [B, cout, 2 S, ...]."""
        return F.relu(self.norm(self.conv(F.interpolate(x, scale_factor=2))), inplace=True)


class ResBlock(nn.Module):
    """Pre-activation residual: norm, ReLU, convolution, twice, plus the input."""

    def __init__(self, cin: int, cout: int, kernel: int, padding: int, *, dims: int = 2, norm: bool = True):
        super().__init__()
        self.norm1 = _norm(cin, dims, norm)
        self.norm2 = _norm(cin, dims, norm)
        self.conv1 = _CONV[dims](cin, cin, kernel, padding=padding)
        self.conv2 = _CONV[dims](cin, cout, kernel, padding=padding)
        self.channel_conv = _CONV[dims](cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, cin, ...] to [B, cout, ...]."""
        # Not in place: without a norm this ReLU would overwrite the block's own input.
        inner = self.conv1(F.relu(self.norm1(x)))
        inner = self.conv2(F.relu(self.norm2(inner), inplace=True))
        return inner + self.channel_conv(x)
