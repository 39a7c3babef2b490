"""Regresses lip opening and width from a mouth image; used as a frozen network in the lip loss.

Lip opening contributes little to an image loss, so on minutes of video the generator ignores the audio. A loss on
predicted lip opening and width depends on them alone.
"""

import torch
import torch.nn.functional as F
from torch import nn

INPUT_SIZE = 32
"""Input size in pixels; low, so that adversarial high-frequency detail cannot lower the loss."""
STD_EPSILON = 0.05
"""Added to the standard deviation that an image is divided by: flat images are not scaled up to noise."""
MIN_BLUR_SIZE = 12
"""Smallest size training mouths are downsampled to; early generator outputs are blurry."""
MAX_NOISE_STD = 0.05
"""Maximum standard deviation of the noise on training mouths."""


class LipShapeRegressor(nn.Module):
    """Mouth regions, RGB in [0, 1], [B, 3, m, m] of any size, to opening and width of the lips [B, 2].

    Opening and width are relative to the distance between the eyes; the person's resting shape is not subtracted.

    Args:
        dropout: before the last layer.
    """

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        widths = (24, 48, 96, 96)
        layers: list[nn.Module] = []
        for number, (cin, cout) in enumerate(zip((3, *widths), widths, strict=False)):
            layers += [nn.Conv2d(cin, cout, 3, stride=2 if number else 1, padding=1), nn.GroupNorm(4, cout), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        side = INPUT_SIZE // 2 ** (len(widths) - 1)
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(widths[-1] * side**2, 2))

    def forward(self, mouths: torch.Tensor) -> torch.Tensor:
        """See the class."""
        small = _resized(mouths.float(), INPUT_SIZE)  # PyTorch cannot resize bf16 on the CPU
        mean, spread = small.mean((1, 2, 3), keepdim=True), small.std((1, 2, 3), keepdim=True)
        return self.head(self.features((small - mean) / (spread + STD_EPSILON)))


def degrade(mouths: torch.Tensor) -> torch.Tensor:
    """Augmentation of training mouths: half of the batches are blurred, all get noise."""
    side = mouths.shape[-1]
    if torch.rand(()) < 0.5:
        mouths = _resized(_resized(mouths, int(torch.randint(MIN_BLUR_SIZE, side, ()))), side)
    return mouths + MAX_NOISE_STD * torch.rand(()).item() * torch.randn_like(mouths)


def _resized(images: torch.Tensor, side: int) -> torch.Tensor:
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)
