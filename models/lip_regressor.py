"""Reads off a picture how far the lips are open and how wide: tells a generator what the speech has to move.

Of all that a picture loss rewards, the opening of the lips is a small part and the hardest to foretell: on minutes of
video, generators learn skin and pose from the pictures and leave the speech aside. A loss on what is read off their
mouths has nothing else to follow than the speech.
"""

import torch
import torch.nn.functional as F
from torch import nn

INPUT_SIZE = 32
"""Pixels that a mouth is read at: a generator cannot deceive the reader by detail that nobody sees."""
STD_EPSILON = 0.05
"""Contrast below which a picture's own is not scaled up to 1."""
MIN_BLUR_SIZE = 12
"""Training mouths are blurred down to this many pixels at most: young generators' mouths are soft."""
MAX_NOISE_STD = 0.05
"""Standard deviation of noise on training mouths at most."""


class LipShapeRegressor(nn.Module):
    """Mouth regions, RGB in [0, 1], [B, 3, m, m] of any size, to opening and width of the lips [B, 2].

    Opening and width are relative to the distance between the eyes; the person's resting shape is not subtracted.

    Args:
        dropout: share of the last features left out in training.
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
    """Mouths to train on: half of the batches blurred, all with noise."""
    side = mouths.shape[-1]
    if torch.rand(()) < 0.5:
        mouths = _resized(_resized(mouths, int(torch.randint(MIN_BLUR_SIZE, side, ()))), side)
    return mouths + MAX_NOISE_STD * torch.rand(()).item() * torch.randn_like(mouths)


def _resized(pictures: torch.Tensor, side: int) -> torch.Tensor:
    return F.interpolate(pictures, (side, side), mode="bilinear", antialias=True, align_corners=False)
