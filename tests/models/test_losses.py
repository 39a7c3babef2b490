"""Losses one by one; tests/utils/training/test_dinet_step.py compares whole steps with the golden ones."""

import pytest
import torch
from golden.networks import (
    discriminator,
    normal_tensor,
    syncnet,
    uniform_tensor,
    vgg_weights,
)

from models.losses import (
    CLIP_FRAMES,
    discriminator_loss,
    frame_major,
    perceptual_loss,
    stack_frames_on_channels,
    sync_loss,
)
from models.perceptual import PerceptualNetwork


def test_the_sync_loss_is_the_squared_distance_of_the_scores_to_one():
    mouths, audio, network = uniform_tensor(1, 2, 15, 32, 32), normal_tensor(2, 2, 29, 9), syncnet()
    with torch.no_grad():
        wanted = 0.3 * (network(mouths, audio) - 1).square().mean()
    assert sync_loss(network, mouths, audio, 0.3).item() == pytest.approx(wanted.item(), rel=1e-6)


def test_the_discriminator_loss_has_no_gradient_in_the_generator():
    fake = torch.rand(1, 3, 64, 64, requires_grad=True)
    discriminator_loss(discriminator(3), fake, torch.rand(1, 3, 64, 64)).backward()
    assert fake.grad is None


def test_perceptual_loss_of_equal_flat_images_is_zero_and_only_the_fake_gets_a_gradient():
    vgg = PerceptualNetwork({key: value for key, value in vgg_weights().items() if key.startswith("features.0.")})
    fake, real = (torch.full((1, 3, 32, 32), 0.5, requires_grad=True) for _ in range(2))
    loss = perceptual_loss(vgg, fake, real)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert fake.grad is not None and real.grad is None


def test_frame_major_clips_are_stacked_on_channels_again():
    clips = torch.arange(2 * CLIP_FRAMES * 3).view(2, CLIP_FRAMES, 3, 1, 1).float()
    assert torch.equal(frame_major(clips)[1], clips[1, 0])
    assert torch.equal(stack_frames_on_channels(frame_major(clips)), clips.flatten(1, 2))
