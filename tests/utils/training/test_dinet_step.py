"""The training steps of the frame stage and the clip stage."""

from pathlib import Path

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
from helpers.training_steps import frame_batch, tiny_perceptual, trained

from models.losses import CLIP_FRAMES
from models.perceptual import PerceptualNetwork
from utils.face.crop_geometry import mouth_region
from utils.training.dinet_step import ClipStep, FrameStep
from utils.training.networks import TrainingNetworks
from utils.training.settings import LossWeights


def assert_golden_step(file: Path, losses: dict[str, torch.Tensor], networks: TrainingNetworks) -> None:
    assert_golden(file, losses, networks.optimizer_steps["net_g"].gradient_norm, networks.modules["net_g"])


def test_the_frame_step_is_golden(golden_dir):
    networks = trained({"net_g": generator(), "net_dI": discriminator(3)})
    step = FrameStep(networks, mouth_region(MOUTH), LossWeights(), PerceptualNetwork(vgg_weights()))
    assert_golden_step(golden_dir / "train_frame_mouth64.npz", step(**frame_batch()), networks)


@pytest.mark.slow
def test_the_clip_step_is_golden(golden_dir):
    seed = 1200
    networks = trained({"net_g": generator(), "net_dI": discriminator(3), "net_dV": discriminator(15)})
    step = ClipStep(networks, mouth_region(MOUTH), LossWeights(), PerceptualNetwork(vgg_weights()), syncnet())
    losses = step(
        source=uniform_tensor(seed, BATCH, CLIP_FRAMES, 3, HEIGHT, WIDTH),
        reference=uniform_tensor(seed + 1, BATCH, CLIP_FRAMES, 15, HEIGHT, WIDTH),
        audio=normal_tensor(seed + 2, BATCH, CLIP_FRAMES, 29, 5),
        clip_audio=normal_tensor(seed + 3, BATCH, 29, 9),
    )
    assert_golden_step(golden_dir / "train_clip_mouth64.npz", losses, networks)


def test_the_generator_step_leaves_the_discriminator_alone():
    networks = trained({"net_g": generator(), "net_dI": discriminator(3)})
    step = FrameStep(networks, mouth_region(MOUTH), LossWeights(lamb_mouth=2), tiny_perceptual())
    before = {}

    def check(loss: torch.Tensor) -> None:
        before.update({name: value.clone() for name, value in networks.modules["net_dI"].state_dict().items()})
        loss.backward()

    networks.optimizer_steps["net_g"] = check
    losses = step(**frame_batch())
    gradients = [parameter.grad.clone() for parameter in networks.modules["net_dI"].parameters()]
    assert set(losses) == {"dI", "perception", "mouth", "g_dI"}
    assert all(torch.equal(before[name], value) for name, value in networks.modules["net_dI"].state_dict().items())
    assert all(parameter.requires_grad for parameter in networks.modules["net_dI"].parameters())
    # The gradients are still those of the discriminator's own step.
    again = trained({"net_g": generator(), "net_dI": discriminator(3)})
    again.optimizer_steps["net_g"] = lambda loss: None
    FrameStep(again, mouth_region(MOUTH), LossWeights(), tiny_perceptual())(**frame_batch())
    own = [parameter.grad for parameter in again.modules["net_dI"].parameters()]
    assert all(torch.equal(a, b) for a, b in zip(gradients, own, strict=True))


def test_evaluation_changes_nothing_and_compares_with_the_mean_reference():
    networks = trained({"net_g": generator(), "net_dI": discriminator(3)})
    before = {name: value.clone() for name, value in networks.modules["net_g"].state_dict().items()}
    step = FrameStep(networks, mouth_region(MOUTH), LossWeights(), tiny_perceptual())
    batch = frame_batch()
    batch["reference"] = batch["source"].repeat(1, 5, 1, 1) + 0.25
    figures = step.evaluate(**batch)
    assert figures["mouth_l1_of_mean_reference"].item() == pytest.approx(0.25, abs=1e-5)
    assert 0 < figures["mouth_l1"] < 1
    pictures = step.images(**batch)
    assert pictures.shape == (BATCH, 8, 3, HEIGHT, WIDTH)
    assert torch.equal(pictures[:, 0], batch["source"])
    rows, columns = mouth_region(MOUTH)
    assert pictures[:, 1, :, rows, columns].abs().max() == 0
    assert networks.modules["net_g"].training
    assert all(torch.equal(before[name], value) for name, value in networks.modules["net_g"].state_dict().items())


def test_weights_of_zero_leave_losses_out():
    networks = trained({"net_g": generator(), "net_dI": discriminator(3)})
    weights = LossWeights(lamb_perception=0, lamb_gan=0, lamb_l1=2, lamb_mouth=3)
    before = {name: value.clone() for name, value in networks.modules["net_dI"].state_dict().items()}
    step = FrameStep(networks, mouth_region(MOUTH), weights, None)
    with torch.no_grad():
        batch = frame_batch()
        fake = networks.modules["net_g"](step._masked(batch["source"]), batch["reference"], batch["audio"])
    losses = step(**batch)
    assert set(losses) == {"l1", "mouth"}
    error = (fake - batch["source"]).abs()
    assert losses["l1"].item() == pytest.approx(2 * error.mean().item(), rel=1e-4)
    assert losses["mouth"].item() == pytest.approx(3 * error[step.mouth].mean().item(), rel=1e-4)
    assert all(torch.equal(before[name], value) for name, value in networks.modules["net_dI"].state_dict().items())


def test_gradients_are_those_of_a_least_squares_gan():
    # The discriminator's loss, halved over fake and real, as published.
    networks = trained({"net_g": generator(), "net_dI": discriminator(3)})
    networks.optimizer_steps["net_g"] = lambda loss: None
    captured = []
    networks.optimizer_steps["net_dI"] = captured.append
    step = FrameStep(networks, mouth_region(MOUTH), LossWeights(), tiny_perceptual())
    batch = frame_batch()
    step(**batch)
    net_dI = discriminator(3)
    masked = batch["source"].clone()
    masked[(..., *mouth_region(MOUTH))] = 0
    fake = generator().train()(masked, batch["reference"], batch["audio"])
    expected = ((net_dI(fake)[1] ** 2).mean() + ((net_dI(batch["source"])[1] - 1) ** 2).mean()) / 2
    assert captured[0].item() == pytest.approx(expected.item(), rel=1e-4)


def test_images_that_share_references_are_trained_as_if_each_had_its_own():
    torch.manual_seed(5)
    batch = {
        "source": torch.rand(1, 3, 3, HEIGHT, WIDTH),
        "reference": torch.rand(1, 15, HEIGHT, WIDTH),
        "audio": torch.randn(1, 3, 29, 5),
    }
    apart = {name: value.flatten(0, 1) for name, value in batch.items() if name != "reference"}
    apart["reference"] = batch["reference"].expand(3, -1, -1, -1)
    losses, evaluated = [], []
    for some in (batch, apart):
        networks = trained({"net_g": generator().eval(), "net_dI": discriminator(3)})
        step = FrameStep(networks, mouth_region(MOUTH), LossWeights(lamb_l1=1), tiny_perceptual())
        evaluated.append(step.evaluate(**some))
        assert step.images(**some).shape[1:] == (8, 3, HEIGHT, WIDTH)
        networks.modules["net_g"].eval()  # else the norms' statistics are those of one set of references, or of three
        losses.append(step(**some))
    for one, other in (losses, evaluated):
        assert one.keys() == other.keys()
        for name, value in one.items():
            torch.testing.assert_close(value, other[name])


def test_errors_on_the_lips_count_more_in_the_mouth_loss_if_asked_for():
    rows, columns = mouth_region(MOUTH)
    networks = trained({"net_g": generator(), "net_dI": discriminator(3)})
    real = torch.rand(1, 3, HEIGHT, WIDTH)

    def loss(focus: float, row: int, column: int) -> float:
        weights = LossWeights(lamb_perception=0, lamb_gan=0, lamb_mouth=1, lip_focus=focus)
        fake = real.clone()
        fake[..., rows.start + row, columns.start + column] += 1
        step = FrameStep(networks, mouth_region(MOUTH), weights, None)
        return step._image_losses(fake, real)["mouth"].item() * MOUTH**2

    lips, chin = (MOUTH // 2, MOUTH // 2), (MOUTH - 2, MOUTH // 2)
    assert loss(1, *lips) == pytest.approx(1) == loss(1, *chin)
    assert loss(4, *lips) == pytest.approx(4 * loss(4, *chin), rel=0.01)
    everywhere = FrameStep(
        networks, mouth_region(MOUTH), LossWeights(lamb_perception=0, lamb_gan=0, lamb_mouth=1, lip_focus=4), None
    )
    assert everywhere._image_losses(real + 1, real)["mouth"].item() == pytest.approx(1)


def test_the_perceptual_loss_can_be_that_of_the_mouth_alone():
    networks = trained({"net_g": generator(), "net_dI": discriminator(3)})
    rows, columns = mouth_region(MOUTH)
    real = torch.rand(1, 3, HEIGHT, WIDTH)
    fake = torch.rand(1, 3, HEIGHT, WIDTH)
    fake[..., rows, columns] = real[..., rows, columns]
    for region, differs in (("image", True), ("mouth", False)):
        weights = LossWeights(lamb_gan=0, perception_region=region)
        step = FrameStep(networks, mouth_region(MOUTH), weights, tiny_perceptual())
        loss = step._image_losses(fake, real)["perception"].item()
        # The two scales halve fake and real differently, so that equal pictures are not quite equal there.
        equal = step._image_losses(real, real)["perception"].item()
        assert (loss > 2 * equal) == differs
