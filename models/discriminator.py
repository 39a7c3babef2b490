"""Patch discriminator: `net_dI` sees one frame (3 channels), `net_dV` five frames stacked on channels (15 channels)."""

import torch
import torch.nn.functional as F
from torch import nn


class DiscriminatorBlock(nn.Module):
    """Convolution 4x4 without padding, leaky ReLU 0.2 and, if `pool`, a 2x2 average pool."""

    def __init__(self, cin: int, cout: int, pool: bool):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, 4)
        self.pool = nn.AvgPool2d(2) if pool else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, cin, H, W] to [B, cout, h, w]."""
        return self.pool(F.leaky_relu(self.conv(x), 0.2, inplace=True))


def min_image_side(num_blocks: int) -> int:
    """Smallest height and width in pixels that a discriminator of this number of blocks can score."""
    side = 4  # the last block's kernel
    for _ in range(num_blocks - 1):
        side = 2 * side + 3  # before the average pool, and before the 4x4 kernel
    return side


class Discriminator(nn.Module):
    """Scores overlapping patches; trained by least squares to 1 for real and 0 for generated images.

    Args:
        num_channels: channels of the image.
        block_expansion: half the channels of the first block's output; every block doubles them.
        num_blocks: number of blocks.
        max_features: upper limit of the channels.
    """

    def __init__(self, num_channels: int, block_expansion: int = 64, num_blocks: int = 4, max_features: int = 256):
        super().__init__()
        widths = [num_channels] + [min(max_features, block_expansion * 2 ** (i + 1)) for i in range(num_blocks)]
        self.down_blocks = nn.ModuleList(
            DiscriminatorBlock(widths[i], widths[i + 1], pool=i < num_blocks - 1) for i in range(num_blocks)
        )
        self.conv = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Images [B, num_channels, H, W] in [0, 1] to (outputs of the blocks, score map [B, 1, h, w]), as published."""
        outputs = []
        for block in self.down_blocks:
            x = block(x)
            outputs.append(x)
        return outputs, self.conv(x)
