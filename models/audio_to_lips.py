"""Audio encoder + linear head that predicts the lip shape: pre-training of the audio encoder for small data sets."""

import torch
from torch import nn

from .dinet import AUDIO_EMBEDDING_DIM, make_audio_encoder


class AudioToLipShape(nn.Module):
    """Speech features [B, audio_channel, T] to lip shapes [B, values], through the generator's audio encoder.

    Args:
        audio_channel: channels of the speech features.
        values: length of a lip shape.
        dropout: of the audio embedding.
    """

    def __init__(self, audio_channel: int, values: int, dropout: float = 0.0):
        super().__init__()
        self.audio_encoder = make_audio_encoder(audio_channel)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(AUDIO_EMBEDDING_DIM, values))

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.head(self.audio_encoder(audio).mean(2))
