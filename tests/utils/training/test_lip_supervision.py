"""The lip loss of the DINet steps."""

import math

import pytest
import torch
from golden.networks import (
    BATCH,
    HEIGHT,
    MOUTH,
    WIDTH,
    discriminator,
    generator,
    uniform_tensor,
)
from helpers.training_steps import frame_batch, supervision, trained

from models.audio_to_lips import AudioToLipShape
from models.lip_regressor import LipShapeRegressor
from models.losses import CLIP_FRAMES, perceptual_loss
from utils.face.crop_geometry import mouth_region
from utils.training.dinet_step import ClipStep, FrameStep, still_rows
from utils.training.lip_supervision import TARGET_RANGE
from utils.training.networks import TrainingNetworks
from utils.training.settings import LossWeights


def test_the_lip_loss_compares_predictions_from_generated_and_true_mouths():
    torch.manual_seed(0)
    regressor = LipShapeRegressor(dropout=0.5)
    networks = trained({"net_g": generator(), "net_dI": discriminator(3)})
    weights = LossWeights(lamb_perception=0, lamb_gan=0)
    step = FrameStep(networks, mouth_region(MOUTH), weights, None, supervision(regressor, weight=2))
    batch = frame_batch()
    kept = {name: value.clone() for name, value in regressor.state_dict().items()}
    with torch.no_grad():
        fake = networks.modules["net_g"](step._masked(batch["source"]), batch["reference"], batch["audio"])
        wanted = 2 * (regressor(fake[step.mouth]) - regressor(batch["source"][step.mouth])).square().mean()
    losses = step(**batch)
    assert set(losses) == {"lips"}
    assert losses["lips"].item() == pytest.approx(wanted.item(), rel=1e-4)
    assert networks.optimizer_steps["net_g"].gradient_norm > 0
    assert all(torch.equal(kept[name], value) for name, value in regressor.state_dict().items())
    figures = step.evaluate(**batch | {"reference": batch["source"].repeat(1, 5, 1, 1)})
    assert figures["lips_of_mean_reference"] < 1e-6 * figures["lips"]


def supervised_step(kind: type[FrameStep], networks: TrainingNetworks, *others: torch.nn.Module, **how) -> FrameStep:
    """A step with lip supervision by both networks, untrained."""
    torch.manual_seed(0)
    lips = supervision(LipShapeRegressor(), AudioToLipShape(29, 40, dropout=0.5), weight=2, **how)
    weights = LossWeights(lamb_perception=0, lamb_gan=0, lamb_l1=3)
    return kind(networks, mouth_region(MOUTH), weights, None, *others, lips)


def opening_and_width(shapes: torch.Tensor) -> torch.Tensor:
    points = shapes.unflatten(-1, (20, 2))
    return torch.stack([points[:, 18, 1] - points[:, 14, 1], points[:, 6, 0] - points[:, 0, 0]], -1)


def limited(true: torch.Tensor, aim: torch.Tensor) -> torch.Tensor:
    """Targets [B, 2] that lie beyond the lips of real people are limited to those, or to the person's own."""
    (least_opening, most_opening), (least_width, most_width) = TARGET_RANGE
    least = torch.minimum(torch.tensor([least_opening, least_width]), true)
    most = torch.maximum(torch.tensor([most_opening, most_width]), true)
    return torch.minimum(torch.maximum(aim, least), most)


@pytest.mark.parametrize(
    ("true", "offset", "wanted"),
    [
        ((2.0, 16.0), (1.0, -1.0), (3.0, 15.0)),
        ((2.0, 16.0), (-3.0, -9.0), (0.0, 13.5)),
        ((2.0, 16.0), (9.0, 9.0), (5.8, 19.3)),
        ((7.0, 12.0), (1.0, -1.0), (7.0, 12.0)),
    ],
)
def test_targets_are_lips_that_exist(true, offset, wanted):
    class Reader(torch.nn.Module):
        def forward(self, mouths):
            return mouths

    lips = supervision(Reader())
    loss = lips.loss(torch.tensor([wanted]), torch.tensor([true]), torch.tensor([offset]))["lips"]
    assert loss.item() == pytest.approx(0, abs=1e-9)


def test_the_amplitude_scales_the_lip_motion_predicted_from_audio():
    networks = trained({"net_g": generator(), "net_dI": discriminator(3)})
    step, batch = supervised_step(FrameStep, networks, amplitude=2.5), frame_batch()
    with torch.no_grad():
        fake = networks.modules["net_g"](step._masked(batch["source"]), batch["reference"], batch["audio"])
        true = step.lips.regressor(batch["source"][step.mouth])
        aim = limited(true, true + 1.5 * opening_and_width(step.lips.audio2lip(batch["audio"])))
        wanted = 2 * (step.lips.regressor(fake[step.mouth]) - aim).square().mean()
    losses = step(**batch)
    assert losses["lips"].item() == pytest.approx(wanted.item(), rel=1e-4)
    assert losses["l1"].item() == pytest.approx(3 * (fake - batch["source"]).abs().mean().item(), rel=1e-4)


def test_with_unpaired_audio_images_are_compared_above_the_lips_only():
    networks = trained({"net_g": generator(), "net_dI": discriminator(3)})
    step, batch = supervised_step(FrameStep, networks, unpaired=0.5), frame_batch()
    assert BATCH == 2
    own, other = batch["audio"][:1], batch["audio"][1:]
    wanted = []
    for unpaired in (0, 1):
        driving = batch["audio"].clone()
        driving[unpaired] = (other, own)[unpaired][0]
        with torch.no_grad():
            fake = networks.modules["net_g"](step._masked(batch["source"]), batch["reference"], driving)
            true = step.lips.regressor(batch["source"][step.mouth])
            own_lips, driven = (opening_and_width(step.lips.audio2lip(a)) for a in (batch["audio"], driving))
            lips = 2 * (step.lips.regressor(fake[step.mouth]) - limited(true, true + driven - own_lips)).square().mean()
            error = (fake - batch["source"]).abs()
            error[unpaired][step.mouth] *= still_rows(MOUTH)[:, None]
            wanted.append((lips.item(), 3 * error.mean().item()))
    losses = step(**batch)
    assert any((losses["lips"].item(), losses["l1"].item()) == pytest.approx(each, rel=1e-4) for each in wanted)


def test_unpaired_images_are_compared_by_their_texture():
    features = [torch.nn.AvgPool2d(1), torch.nn.AvgPool2d(2)]
    real = uniform_tensor(1, 2, 3, 32, 32)
    moved = real.roll(4, 3)
    texture_only = torch.tensor([True, False])

    def loss(fake, texture_only):
        return perceptual_loss(lambda images: [f(images) for f in features], fake, real, 1, texture_only).item()

    assert loss(moved, ~texture_only) == pytest.approx(loss(moved, texture_only), rel=0.2)
    still = torch.stack([moved[0], real[1]])
    assert loss(still, texture_only) < 0.5 * loss(still, None)  # moved texture is the same texture
    flat = torch.stack([real[0].mean((1, 2), keepdim=True).expand(3, 32, 32), real[1]])
    assert loss(flat, texture_only) > 2 * loss(still, texture_only)
    assert loss(moved, torch.tensor([False, False])) == pytest.approx(loss(moved, None), rel=1e-6)


def test_nose_and_cheeks_keep_their_target_and_lips_have_none():
    rows = still_rows(64)
    assert rows[:16].eq(1).all() and rows[22:].eq(0).all() and rows.diff().le(0).all()


def test_an_unpaired_clip_takes_all_audio_of_another():
    received = {}

    class Generator(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.level = torch.nn.Parameter(torch.zeros(1))

        def forward(self, source, reference, audio):
            received["frames"] = audio
            return source + self.level

    class Sync(torch.nn.Module):
        def forward(self, mouths, audio):
            received["clips"] = audio
            return mouths.mean((1, 2, 3))

    networks = trained({"net_g": Generator(), "net_dI": discriminator(3), "net_dV": discriminator(15)})
    step = supervised_step(ClipStep, networks, Sync(), unpaired=0.5)
    audio = torch.arange(2.0)[:, None, None, None].expand(2, CLIP_FRAMES, 29, 5)
    losses = step(
        source=uniform_tensor(1, 2, CLIP_FRAMES, 3, HEIGHT, WIDTH),
        reference=uniform_tensor(2, 2, CLIP_FRAMES, 15, HEIGHT, WIDTH),
        audio=audio,
        clip_audio=audio[:, 0].repeat(1, 1, 2)[..., :9],
    )
    clips = received["clips"][:, 0, 0].tolist()
    assert clips in ([0, 0], [1, 1])
    assert received["frames"][:, 0, 0].tolist() == clips * CLIP_FRAMES
    assert set(losses) == {"l1", "lips", "sync"}


@pytest.mark.slow  # where the processor has no bf16
def test_lips_are_compared_in_mixed_precision():
    networks = trained({"net_g": generator(), "net_dI": discriminator(3)}, amp="bf16")
    weights = LossWeights(lamb_perception=0, lamb_gan=0)
    step = FrameStep(networks, mouth_region(MOUTH), weights, None, supervision(LipShapeRegressor(), weight=2))
    assert 0 < step(**frame_batch())["lips"].item() < math.inf


def test_audio2lip_may_take_other_features_than_the_generator():
    class Audio2Lip(torch.nn.Module):
        def forward(self, audio):
            return audio.mean((1, 2))[:, None].expand(-1, 40)

    networks = trained({"net_g": generator(), "net_dI": discriminator(3)})
    lips = supervision(LipShapeRegressor(), Audio2Lip(), weight=1, amplitude=2)
    step = FrameStep(networks, mouth_region(MOUTH), LossWeights(lamb_perception=0, lamb_gan=0), None, lips)
    losses = step(**frame_batch(), audio2lip_audio=torch.randn(BATCH, 80, 20))
    assert losses["lips"].isfinite()
