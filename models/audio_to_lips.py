"""The generator's audio encoder with a head that tells the lip shape: what it learns first where data is short."""

import torch
from torch import nn

from .dinet import AUDIO_CODE, make_audio_encoder

AUDIO_ENCODER = "net_a"
"""Name of a LipReader in checkpoints."""


class LipReader(nn.Module):
    """Audio rows [B, audio_channel, T] to lip shapes [B, values], through the generator's audio encoder.

    Args:
        audio_channel: numbers in a row.
        values: numbers of a lip shape.
        dropout: share of the audio code's numbers left out in training.
    """

    def __init__(self, audio_channel: int, values: int, dropout: float = 0.0):
        super().__init__()
        self.audio_encoder = make_audio_encoder(audio_channel)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(AUDIO_CODE, values))

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.head(self.audio_encoder(audio).mean(2))


def lip_opening(shapes: torch.Tensor) -> torch.Tensor:
    """How far the inner lips' middles are apart, [B], from lip shapes [B, 40]: (x, y) of the landmarks 48 to 67."""
    heights = shapes[..., 1::2]
    return heights[..., 66 - 48] - heights[..., 62 - 48]


def lip_measures(shapes: torch.Tensor) -> torch.Tensor:
    """Opening and width of the lips, [B, 2], from lip shapes [B, 40]; as `dataset.lip_samples.lip_measures`."""
    return torch.stack([lip_opening(shapes), shapes[..., 2 * (54 - 48)] - shapes[..., 0]], -1)
