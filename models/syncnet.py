"""SyncNet: scores whether the mouth in five frames and the audio of nine (two more on each side) are in sync."""

import torch
import torch.nn.functional as F
from torch import nn

from .blocks import DownBlock, ResBlock, SameBlock
from .losses import CLIP_FRAMES

INITIAL_SCORE_STD = 0.1
"""Standard deviation of the initial scores, whose mean is 0.5."""


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
    """Mouth regions of five frames on channels, [B, in_channels, m, m], to [B, out_dim, m / 32, m / 32]."""

    def __init__(self, in_channels: int, out_dim: int):
        super().__init__()
        self.face_conv = _face_conv(in_channels, out_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.face_conv(x)


class AudioEncoder(nn.Module):
    """Speech features [B, in_channels, T] to an embedding [B, out_dim]: the mean over time."""

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

    def forward(
        self, image: torch.Tensor, audio: torch.Tensor, negative_audio: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Score clips.

        Args:
            image: mouth regions of five frames on channels, RGB in [0, 1], [B, 15, m, m].
            audio: the speech features of nine frames, [B, in_channel_audio, T].
            negative_audio: speech features that are not in sync, [B, N, in_channel_audio, T]; only in training.

        Returns:
            Score map [B, 1, m / 32, m / 32], unbounded; with `negative_audio` what `score_pairs` returns.
        """
        if negative_audio is not None:  # DistributedDataParallel and torch.compile know of forward only
            return self.score_pairs(image, audio, negative_audio)
        return self.score(self.face_encoder(image), self.audio_encoder(audio))

    def score(self, face: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Score map [B, 1, h, w] from the face encoder's map [B, out_dim, h, w] and audio embeddings [B, out_dim]."""
        repeated = embedding[:, :, None, None].expand(-1, -1, *face.shape[2:])
        return self.merge_encoder(torch.cat([face, repeated], 1))

    def score_pairs(
        self, image: torch.Tensor, audio: torch.Tensor, negative_audio: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Score the same mouths with their own and with other audio, encoding each mouth once; arguments as in forward.

        Returns:
            Score maps of the pairs in sync [B, h, w] and of the others [B, N, h, w]; embeddings of the mouths
            [B, out_dim] and of the audio [B, 1 + N, out_dim], that in sync first, both before their last ReLU.
        """
        *layers, last = self.face_encoder.face_conv
        face_map = last.conv(nn.Sequential(*layers)(image))
        face = last.activate(face_map.clone())  # a copy, as it works in place
        *layers, last = self.audio_encoder.audio_conv
        windows = torch.cat([audio[:, None], negative_audio], 1)
        audio_map = last.conv(nn.Sequential(*layers)(windows.flatten(0, 1)))
        embeddings = last.activate(audio_map.clone()).mean(2)
        count = windows.shape[1]
        scores = self.score(face.repeat_interleave(count, 0), embeddings).squeeze(1).unflatten(0, (-1, count))
        return scores[:, 0], scores[:, 1:], face_map.mean((2, 3)), audio_map.mean(2).unflatten(0, (-1, count))


@torch.no_grad()
def lsuv_init_(network: SyncNet, mouths: torch.Tensor, audio: torch.Tensor) -> None:
    """Data-dependent initialisation, LSUV (Mishkin & Matas 2016): each convolution has zero mean, unit variance.

    SyncNet has no normalisation: with PyTorch's own initialisation the face embeddings of different images differ by
    1e-6, and by the person rather than the lips. The first convolution therefore compares frames: one blurred filter in
    all of them, times weights that add up to zero over the five. The motion of the lip opening is then predicted after
    2,000 samples (correlation 0.55 with the landmarks, on people held out); without it, not after 5,000.

    Args:
        network: on the device of the data.
        mouths: mouth regions [B, 15, m, m], as to be trained on; some 30 of different videos are enough.
        audio: their speech features [B, in_channel_audio, T].
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
    last.weight.mul_(INITIAL_SCORE_STD)
    last.bias.mul_(INITIAL_SCORE_STD).add_(0.5)
