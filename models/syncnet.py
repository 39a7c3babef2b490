"""SyncNet: does the mouth of five frames belong to the audio of nine (two more on each side)?"""

import torch
from torch import nn

from .blocks import DownBlock, ResBlock, SameBlock


def _face_conv(in_channels: int, channels: int) -> nn.Sequential:
    layers = [
        SameBlock(in_channels, 64, 7, 3, norm=False),
        ResBlock(64, 64, 3, 1, norm=False),
        DownBlock(64, 64, norm=False, pool=True),
        SameBlock(64, channels, 3, 1, norm=False),
    ]
    for stage in range(4):
        if stage > 0:
            layers.append(SameBlock(channels, channels, 3, 1, norm=False))
        layers.append(ResBlock(channels, channels, 3, 1, norm=False))
        layers.append(DownBlock(channels, channels, norm=False, pool=True))
    return nn.Sequential(*layers, SameBlock(channels, channels, 1, 0, norm=False))


def _audio_conv(in_channels: int, channels: int) -> nn.Sequential:
    layers = [SameBlock(in_channels, channels, 7, 3, dims=1, norm=False)]
    for _ in range(3):
        layers.append(ResBlock(channels, channels, 3, 1, dims=1, norm=False))
        layers.append(DownBlock(channels, channels, dims=1, norm=False))
    return nn.Sequential(*layers, SameBlock(channels, channels, 3, 1, dims=1, norm=False))


class FaceEncoder(nn.Module):
    """Mouth squares of five frames, [B, in_channels, m, m], to a map [B, out_dim, m / 32, m / 32]."""

    def __init__(self, in_channels: int, out_dim: int):
        super().__init__()
        self.face_conv = _face_conv(in_channels, out_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.face_conv(x)


class AudioEncoder(nn.Module):
    """Audio rows [B, in_channels, T] to one code [B, out_dim]: the mean over time."""

    def __init__(self, in_channels: int, out_dim: int):
        super().__init__()
        self.audio_conv = _audio_conv(in_channels, out_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.audio_conv(x).mean(2)


class SyncNet(nn.Module):
    """Synchrony score map, trained to 1 where mouth and audio agree."""

    def __init__(self, in_channel_image: int = 15, in_channel_audio: int = 29, out_dim: int = 128):
        super().__init__()
        self.face_encoder = FaceEncoder(in_channel_image, out_dim)
        self.audio_encoder = AudioEncoder(in_channel_audio, out_dim)
        self.merge_encoder = nn.Sequential(
            nn.Conv2d(2 * out_dim, out_dim, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(out_dim, 1, 3, padding=1),
        )

    def forward(self, image: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        """Score a clip.

        Args:
            image: mouth squares of five frames side by side on channels, RGB in [0, 1], [B, 15, m, m].
            audio: the audio rows of nine frames, [B, in_channel_audio, T].

        Returns:
            Score map [B, 1, m / 32, m / 32], unbounded.
        """
        return self.score(self.face_encoder(image), self.audio_encoder(audio))

    def score(self, face: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Score map [B, 1, h, w] from the face encoder's map [B, out_dim, h, w] and audio codes [B, out_dim]."""
        repeated = code[:, :, None, None].expand(-1, -1, *face.shape[2:])
        return self.merge_encoder(torch.cat([face, repeated], 1))


def initialise(network: SyncNet) -> None:
    """Draw weights to train from: He's, and a first convolution that takes mid-grey for zero.

    SyncNet has no normalisation. With PyTorch's own initialisation the face code of different pictures differs by
    1e-6, with this one by 0.2: the former never leaves chance on little data.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    first = network.face_encoder.face_conv[0].conv
    with torch.no_grad():
        first.bias.copy_(-0.5 * first.weight.sum((1, 2, 3)))
