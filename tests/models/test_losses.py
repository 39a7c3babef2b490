"""Losses: one golden optimizer step of the frame stage and of the clip stage."""

import pytest
import torch
from golden.compare import assert_golden
from golden.networks import (
    BATCH,
    HEIGHT,
    MOUTH,
    WIDTH,
    discriminator,
    generator,
    normal_tensor,
    syncnet,
    uniform_tensor,
    vgg_weights,
)

from models.losses import (
    CLIP_FRAMES,
    discriminator_loss,
    frame_major,
    generator_gan_loss,
    perceptual_loss,
    stack_frames_on_channels,
    sync_loss,
)
from models.perceptual import PerceptualNetwork
from utils.face.crop_geometry import mouth_region


def masked(crops: torch.Tensor) -> torch.Tensor:
    crops = crops.clone()
    mouths(crops)[:] = 0
    return crops


def mouths(crops: torch.Tensor) -> torch.Tensor:
    rows, columns = mouth_region(MOUTH)
    return crops[:, :, rows, columns]


def step(loss: torch.Tensor, network: torch.nn.Module) -> float:
    """One Adam step; the norm of the gradient."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.get_total_norm(parameter.grad for parameter in network.parameters())
    optimizer.step()
    return norm.item()


def test_frame_step_is_golden(golden_dir):
    seed = 1100
    real = uniform_tensor(seed, BATCH, 3, HEIGHT, WIDTH)
    reference = uniform_tensor(seed + 1, BATCH, 15, HEIGHT, WIDTH)
    audio = normal_tensor(seed + 2, BATCH, 29, 5)
    net_g, net_dI = generator().train(), discriminator(3)
    vgg = PerceptualNetwork(vgg_weights())

    fake = net_g(masked(real), reference, audio)
    losses = {"dI": discriminator_loss(net_dI, fake, real)}
    step(losses["dI"], net_dI)
    losses["perception"] = perceptual_loss(vgg, fake, real)
    losses["g_dI"] = generator_gan_loss(net_dI, fake)
    norm = step(losses["perception"] + losses["g_dI"], net_g)

    assert_golden(golden_dir / "train_frame_mouth64.npz", losses, norm, net_g)


@pytest.mark.slow
def test_clip_step_is_golden(golden_dir):
    seed = 1200
    real = frame_major(uniform_tensor(seed, BATCH, CLIP_FRAMES, 3, HEIGHT, WIDTH))
    reference = frame_major(uniform_tensor(seed + 1, BATCH, CLIP_FRAMES, 15, HEIGHT, WIDTH))
    audio = frame_major(normal_tensor(seed + 2, BATCH, CLIP_FRAMES, 29, 5))
    clip_audio = normal_tensor(seed + 3, BATCH, 29, 9)
    net_g, net_dI, net_dV = generator().train(), discriminator(3), discriminator(15)
    vgg = PerceptualNetwork(vgg_weights())

    fake = net_g(masked(real), reference, audio)
    losses = {"dI": discriminator_loss(net_dI, fake, real)}
    step(losses["dI"], net_dI)
    losses["dV"] = discriminator_loss(net_dV, stack_frames_on_channels(fake), stack_frames_on_channels(real))
    step(losses["dV"], net_dV)
    losses["perception"] = perceptual_loss(vgg, fake, real)
    losses["g_dI"] = generator_gan_loss(net_dI, fake)
    losses["g_dV"] = generator_gan_loss(net_dV, stack_frames_on_channels(fake))
    losses["sync"] = sync_loss(syncnet(), stack_frames_on_channels(mouths(fake)), clip_audio)
    norm = step(losses["perception"] + losses["g_dI"] + losses["g_dV"] + losses["sync"], net_g)

    assert_golden(golden_dir / "train_clip_mouth64.npz", losses, norm, net_g)


def test_the_sync_loss_is_the_squared_distance_of_the_scores_to_one():
    mouths, audio, judge = uniform_tensor(1, 2, 15, 32, 32), normal_tensor(2, 2, 29, 9), syncnet()
    with torch.no_grad():
        wanted = 0.3 * (judge(mouths, audio) - 1).square().mean()
    assert sync_loss(judge, mouths, audio, 0.3).item() == pytest.approx(wanted.item(), rel=1e-6)


def test_the_discriminator_step_sends_nothing_into_the_generator():
    fake = torch.rand(1, 3, 64, 64, requires_grad=True)
    discriminator_loss(discriminator(3), fake, torch.rand(1, 3, 64, 64)).backward()
    assert fake.grad is None


def test_perception_loss_of_equal_flat_pictures_is_zero_and_only_the_fake_gets_a_gradient():
    vgg = PerceptualNetwork({key: value for key, value in vgg_weights().items() if key.startswith("features.0.")})
    fake, real = (torch.full((1, 3, 32, 32), 0.5, requires_grad=True) for _ in range(2))
    loss = perceptual_loss(vgg, fake, real)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert fake.grad is not None and real.grad is None


def test_frame_major_clips_come_back_side_by_side():
    clips = torch.arange(2 * CLIP_FRAMES * 3).view(2, CLIP_FRAMES, 3, 1, 1).float()
    assert torch.equal(frame_major(clips)[1], clips[1, 0])
    assert torch.equal(stack_frames_on_channels(frame_major(clips)), clips.flatten(1, 2))
