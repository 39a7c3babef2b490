"""The generator's audio encoder with a head that tells the lip shape: what it learns first where data is short."""

import torch
from torch import nn

from .dinet import AUDIO_EMBEDDING_DIM, make_audio_encoder


class AudioToLipShape(nn.Module):
    """Audio rows [B, audio_channel, T] to lip shapes [B, values], through the generator's audio encoder.

    Args:
        audio_channel: numbers in a row.
        values: numbers of a lip shape.
        dropout: share of the audio code's numbers left out in training.
    """

    def __init__(self, audio_channel: int, values: int, dropout: float = 0.0):
        super().__init__()
        self.audio_encoder = make_audio_encoder(audio_channel)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(AUDIO_EMBEDDING_DIM, values))

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.head(self.audio_encoder(audio).mean(2))
