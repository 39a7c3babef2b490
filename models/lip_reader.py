"""The generator's audio encoder with a head that tells the lip shape: what it learns first where data is short."""

import torch
import torch.nn.functional as F
from torch import nn

from .dinet import AUDIO_CODE, make_audio_encoder
from .steps import Losses, TrainedNetworks, bare, evaluating

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


class LipStep:
    """Mean squared error of the lip shape.

    Args:
        networks: net_a, a LipReader.
    """

    def __init__(self, networks: TrainedNetworks):
        self.reader = networks.shared[AUDIO_ENCODER]
        self.update = networks.updates[AUDIO_ENCODER]
        self.autocast = networks.autocast

    def __call__(self, audio: torch.Tensor, lips: torch.Tensor) -> Losses:
        """Train on speech [B, channels, T] and lip shapes [B, values]; gives lips, the loss."""
        with self.autocast():
            loss = F.mse_loss(self.reader(audio).float(), lips)
        self.update(loss)
        return {"lips": loss.detach()}

    @torch.no_grad()
    def evaluate(self, audio: torch.Tensor, lips: torch.Tensor) -> Losses:
        """Judge a batch.

        Returns:
            lips: the loss; lips_of_rest: that of lips at rest; opening_correlation: of the opening of the lips,
            told from the speech and true.
        """
        reader = bare(self.reader)
        with evaluating(reader), self.autocast():
            told = reader(audio).float()
        openings = torch.stack([lip_opening(told), lip_opening(lips)])
        return {
            "lips": F.mse_loss(told, lips),
            "lips_of_rest": lips.square().mean(),
            "opening_correlation": torch.corrcoef(openings)[0, 1],
        }

    def pictures(self, **batch: torch.Tensor) -> None:
        """It makes none."""


def lip_opening(shapes: torch.Tensor) -> torch.Tensor:
    """How far the inner lips' middles are apart, [B], from lip shapes [B, 40]: (x, y) of the landmarks 48 to 67."""
    heights = shapes[..., 1::2]
    return heights[..., 66 - 48] - heights[..., 62 - 48]
