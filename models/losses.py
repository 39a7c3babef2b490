"""Losses of the training stages, with the published arithmetic."""

import torch
import torch.nn.functional as F
from torch import nn

CLIP_FRAMES = 5
"""Frames that net_dV and SyncNet take at once, and length of the generator's audio window in frames."""
CLIP_LENGTH = 9
"""Frames of a training clip, and length of SyncNet's audio window in frames: two more on each side."""


def perceptual_loss(
    network: nn.Module,
    fake: torch.Tensor,
    real: torch.Tensor,
    weight: float = 10.0,
    texture_only: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean L1 distance of perceptual features over layers and two scales, times `weight` (`--lamb_perception`).

    Args:
        network: a `PerceptualNetwork`: images to a list of feature maps.
        fake: generated images [B, 3, H, W] in [0, 1].
        real: their targets; without gradient.
        texture_only: bool [B], images whose target is another picture of the same person: only the mean and standard
            deviation of each channel are compared, as in style transfer (Huang and Belongie, ICCV 2017). None: no one.
    """
    # Fake and real are downsampled differently, as published: the trained weights depend on it.
    half_fake = F.avg_pool2d(fake, 3, stride=2, padding=1, count_include_pad=False)
    half_real = F.interpolate(real, scale_factor=0.5, mode="bilinear", align_corners=False)
    distances = []
    for fake_scale, real_scale in ((fake, real), (half_fake, half_real)):
        with torch.no_grad():
            targets = network(real_scale)
        distances += [_feature_distance(x, y, texture_only) for x, y in zip(network(fake_scale), targets, strict=True)]
    return weight * torch.stack(distances).mean()


def discriminator_loss(discriminator: nn.Module, fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Least-squares loss of a discriminator: (MSE of fake scores to 0 + MSE of real scores to 1) / 2.

    The fake is detached: the published loop back-propagates into the generator as well, but discards that gradient.
    """
    _, fake_score = discriminator(fake.detach())
    _, real_score = discriminator(real)
    return (_mse_to(fake_score, 0) + _mse_to(real_score, 1)) / 2


def generator_gan_loss(discriminator: nn.Module, fake: torch.Tensor) -> torch.Tensor:
    """Least-squares loss of the generator, MSE of fake scores to 1, after the discriminator's step."""
    _, score = discriminator(fake)
    return _mse_to(score, 1)


def sync_loss(syncnet: nn.Module, mouths: torch.Tensor, audio: torch.Tensor, weight: float = 0.1) -> torch.Tensor:
    """MSE of the synchrony score to 1, times `weight` (`--lamb_syncnet_perception`).

    Args:
        syncnet: a frozen `SyncNet`.
        mouths: mouth regions of the generated clips, frames stacked on channels, [B, 15, m, m].
        audio: the clips' speech features of nine frames, [B, channels, T].
    """
    return weight * _mse_to(syncnet(mouths, audio), 1)


def frame_major(clips: torch.Tensor) -> torch.Tensor:
    """[B, F, ...] to [F * B, ...]: frame 0 of every clip, then frame 1 of every clip, and so on."""
    return clips.transpose(0, 1).flatten(0, 1)


def stack_frames_on_channels(frames: torch.Tensor, clip_frames: int = CLIP_FRAMES) -> torch.Tensor:
    """Frame-major [F * B, C, H, W] to [B, F * C, H, W]: the frames of each clip on channels."""
    return torch.cat(frames.chunk(clip_frames), 1)


def _feature_distance(x: torch.Tensor, y: torch.Tensor, texture_only: torch.Tensor | None) -> torch.Tensor:
    if texture_only is None:
        return F.l1_loss(x, y)
    textures = [torch.cat([maps.mean((2, 3)), maps.std((2, 3))], 1) for maps in (x, y)]
    of_textures = (textures[0] - textures[1]).abs().mean(1)
    return torch.where(texture_only, of_textures, (x - y).abs().mean((1, 2, 3))).mean()


def _mse_to(score: torch.Tensor, target: float) -> torch.Tensor:
    return F.mse_loss(score, torch.full_like(score, target))
