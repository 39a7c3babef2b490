"""SyncNet: does the mouth of five frames belong to the audio of nine (two more on each side)?"""

import torch
import torch.nn.functional as F
from torch import nn

from .blocks import DownBlock, ResBlock, SameBlock
from .losses import CLIP_FRAMES

FIRST_SCORES = 0.1
"""Standard deviation of the scores, about 0.5, that training starts from."""


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


@torch.no_grad()
def lsuv_init_(network: SyncNet, mouths: torch.Tensor, audio: torch.Tensor) -> None:
    """Draw weights to train from, fitted to the data: every convolution gives zero mean and unit variance a channel.

    SyncNet has no normalisation: with PyTorch's own initialisation the face code of different pictures differs by
    1e-6, and what differs is the person. The first convolution therefore compares frames: one blurred filter in all
    of them, times weights that add up to zero over the five. So lips are read after 2,000 samples (the motion of
    their opening correlates 0.55 with the landmarks', on people held out); without it, not after 5,000.

    Args:
        network: on the device of the data.
        mouths: mouth squares [B, 15, m, m], as to be trained on; some 30 of different videos are enough.
        audio: their speech [B, in_channel_audio, T].
    """
    convolutions = [module for module in network.modules() if isinstance(module, (nn.Conv1d, nn.Conv2d))]
    for convolution in convolutions:
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        nn.init.zeros_(convolution.bias)
    first = network.face_encoder.face_conv[0].conv
    frames = first.weight.unflatten(1, (CLIP_FRAMES, -1))
    contrasts = torch.randn_like(frames[:, :, :1, :1, :1])
    contrasts -= contrasts.mean(1, keepdim=True)
    filters = F.avg_pool2d(frames[:, 0], 3, stride=1, padding=1)
    first.weight.copy_((contrasts * filters[:, None]).flatten(1, 2))

    def fit(convolution: nn.Module, _: object, output: torch.Tensor) -> torch.Tensor:
        deviation, mean = torch.std_mean(output, [0, *range(2, output.ndim)], keepdim=True)
        deviation = deviation.clamp(min=1e-5)
        convolution.weight.div_(deviation.view(-1, *[1] * (output.ndim - 1)))
        convolution.bias.sub_(mean.flatten()).div_(deviation.flatten())
        return (output - mean) / deviation

    hooks = [convolution.register_forward_hook(fit) for convolution in convolutions]
    try:
        network.score(network.face_encoder(mouths), network.audio_encoder(audio))
    finally:
        for hook in hooks:
            hook.remove()
    last = network.merge_encoder[-1]
    last.weight.mul_(FIRST_SCORES)
    last.bias.mul_(FIRST_SCORES).add_(0.5)
