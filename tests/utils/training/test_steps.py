"""Training steps, with the optimizers and networks of the engine."""

import math
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

from models.audio_to_lips import AudioToLipShape
from models.lip_regressor import LipShapeRegressor
from models.losses import CLIP_FRAMES
from models.perceptual import PerceptualNetwork
from models.syncnet import SyncNet
from utils.distributed import DistInfo
from utils.errors import UserError
from utils.face.crop_geometry import mouth_region
from utils.training.dinet_step import ClipStep, FrameStep, LipSupervision, LossWeights, SyncPairs, SyncStep
from utils.training.lip_step import LipStep
from utils.training.networks import OptimisationSettings, TrainingNetworks
from utils.training.optimizer import OptimizerStep, learning_rate_factor, make_autocast, make_optimizer

CPU = torch.device("cpu")


def trained(networks: dict[str, torch.nn.Module], **settings) -> TrainingNetworks:
    return TrainingNetworks(networks, dict.fromkeys(networks, 1e-4), OptimisationSettings(**settings), DistInfo(), CPU)


def tiny_perceptual() -> PerceptualNetwork:
    return PerceptualNetwork({key: value for key, value in vgg_weights().items() if key.startswith("features.0.")})


def frame_batch(seed: int = 1100) -> dict[str, torch.Tensor]:
    return {
        "source": uniform_tensor(seed, BATCH, 3, HEIGHT, WIDTH),
        "reference": uniform_tensor(seed + 1, BATCH, 15, HEIGHT, WIDTH),
        "audio": normal_tensor(seed + 2, BATCH, 29, 5),
    }


def assert_golden_step(file: Path, losses: dict[str, torch.Tensor], networks: TrainingNetworks) -> None:
    assert_golden(file, losses, networks.optimizer_steps["net_g"].gradient_norm, networks.modules["net_g"])


def test_the_frame_step_is_golden(golden_dir):
    networks = trained({"net_g": generator(), "net_dI": discriminator(3)})
    step = FrameStep(networks, PerceptualNetwork(vgg_weights()), mouth_region(MOUTH), LossWeights())
    assert_golden_step(golden_dir / "train_frame_mouth64.npz", step(**frame_batch()), networks)


@pytest.mark.slow
def test_the_clip_step_is_golden(golden_dir):
    seed = 1200
    networks = trained({"net_g": generator(), "net_dI": discriminator(3), "net_dV": discriminator(15)})
    step = ClipStep(networks, PerceptualNetwork(vgg_weights()), mouth_region(MOUTH), LossWeights(), syncnet())
    losses = step(
        source=uniform_tensor(seed, BATCH, CLIP_FRAMES, 3, HEIGHT, WIDTH),
        reference=uniform_tensor(seed + 1, BATCH, CLIP_FRAMES, 15, HEIGHT, WIDTH),
        audio=normal_tensor(seed + 2, BATCH, CLIP_FRAMES, 29, 5),
        clip_audio=normal_tensor(seed + 3, BATCH, 29, 9),
    )
    assert_golden_step(golden_dir / "train_clip_mouth64.npz", losses, networks)


def test_the_generator_step_leaves_the_discriminator_alone():
    networks = trained({"net_g": generator(), "net_dI": discriminator(3)})
    step = FrameStep(networks, tiny_perceptual(), mouth_region(MOUTH), LossWeights(lamb_mouth=2))
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
    FrameStep(again, tiny_perceptual(), mouth_region(MOUTH), LossWeights())(**frame_batch())
    own = [parameter.grad for parameter in again.modules["net_dI"].parameters()]
    assert all(torch.equal(a, b) for a, b in zip(gradients, own, strict=True))


def test_evaluation_changes_nothing_and_compares_with_the_mean_reference():
    networks = trained({"net_g": generator(), "net_dI": discriminator(3)})
    before = {name: value.clone() for name, value in networks.modules["net_g"].state_dict().items()}
    step = FrameStep(networks, tiny_perceptual(), mouth_region(MOUTH), LossWeights())
    batch = frame_batch()
    batch["reference"] = batch["source"].repeat(1, 5, 1, 1) + 0.25
    figures = step.evaluate(**batch)
    assert figures["mouth_l1_of_mean_reference"].item() == pytest.approx(0.25, abs=1e-5)
    assert 0 < figures["mouth_l1"] < 1
    pictures = step.pictures(**batch)
    assert pictures.shape == (BATCH, 8, 3, HEIGHT, WIDTH)
    assert torch.equal(pictures[:, 0], batch["source"])
    rows, columns = mouth_region(MOUTH)
    assert pictures[:, 1, :, rows, columns].abs().max() == 0
    assert networks.modules["net_g"].training
    assert all(torch.equal(before[name], value) for name, value in networks.modules["net_g"].state_dict().items())


@pytest.mark.parametrize("contrast", [0.0, 0.5])
def test_the_sync_step_is_that_of_a_plain_loop(contrast):
    # In double precision: Adam's first step is the sign of the gradient, which rounding turns where there is none.
    mouths = uniform_tensor(1, 3, 15, MOUTH, MOUTH).double()
    audio, others = normal_tensor(2, 3, 29, 9).double(), normal_tensor(3, 3, 2, 29, 9).double()
    pairs = SyncPairs()
    pairs.load_state_dict(syncnet().state_dict())
    networks = trained({"net": pairs.double()})
    losses = SyncStep(networks, lamb_contrast=contrast)(mouths, audio, others)

    plain = syncnet().double()
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-4)
    own, wrong = plain(mouths, audio), [plain(mouths, others[:, number]) for number in range(2)]
    loss = 0.5 * ((own - 1) ** 2).mean() + 0.5 * torch.cat([score**2 for score in wrong]).mean()
    assert losses["sync"].item() == pytest.approx(loss.item(), rel=1e-5)
    if contrast:
        logits = torch.stack([10 * score.mean((1, 2, 3)) for score in [own, *wrong]], 1)
        entropy = -logits.log_softmax(1)[:, 0].mean()
        assert losses["contrast"].item() == pytest.approx(entropy.item(), rel=1e-5)
        loss = loss + contrast * entropy
    loss.backward()
    optimizer.step()
    right = [sum(float(score.mean() > 0.5) for score in own) / 3]
    right.append(sum(float(score.mean() <= 0.5) for number in range(2) for score in wrong[number]) / 6)
    assert losses["accuracy"].item() == pytest.approx(sum(right) / 2)
    state = pairs.state_dict()
    SyncNet().load_state_dict(state)  # the names are those of a SyncNet
    for name, value in plain.state_dict().items():
        assert torch.allclose(state[name], value, rtol=0, atol=1e-9), name


def test_lips_teach_both_encoders_where_they_are_known():
    batch = {
        "mouths": uniform_tensor(1, 2, 15, 32, 32),
        "audio": normal_tensor(2, 2, 29, 9),
        "negative_audio": normal_tensor(3, 2, 3, 29, 9),
    }
    heard_lips = normal_tensor(4, 2, 4, 10)
    heard_lips[0, 0, 3] = heard_lips[1, 2] = math.nan
    lips = heard_lips[:, 0]
    networks = trained({"net": SyncPairs()})
    step = SyncStep(networks, lamb_lips=1.0)
    before = step.evaluate(**batch, lips=lips, heard_lips=heard_lips)
    with torch.no_grad():
        *_, seen, heard = step.pairs(**batch)
    for name, code, true, known in (("lips_seen", seen, lips, 19), ("lips_heard", heard, heard_lips, 69)):
        errors = ((code[..., :10] - true).square() + (code[..., 10:20] + true).square()) / 2
        assert before[name].item() == pytest.approx(errors.nansum().item() / known, rel=1e-5)
    for _ in range(10):
        step(**batch, lips=lips, heard_lips=heard_lips)
    after = step.evaluate(**batch, lips=lips, heard_lips=heard_lips)
    assert all(after[name] < before[name] for name in ("lips_seen", "lips_heard"))
    assert not {"lips_seen", "lips_heard"} & set(step.evaluate(**batch))


def test_weights_of_zero_leave_losses_out():
    networks = trained({"net_g": generator(), "net_dI": discriminator(3)})
    weights = LossWeights(lamb_perception=0, lamb_gan=0, lamb_l1=2, lamb_mouth=3)
    before = {name: value.clone() for name, value in networks.modules["net_dI"].state_dict().items()}
    step = FrameStep(networks, None, mouth_region(MOUTH), weights)
    with torch.no_grad():
        batch = frame_batch()
        fake = networks.modules["net_g"](step._masked(batch["source"]), batch["reference"], batch["audio"])
    losses = step(**batch)
    assert set(losses) == {"l1", "mouth"}
    error = (fake - batch["source"]).abs()
    assert losses["l1"].item() == pytest.approx(2 * error.mean().item(), rel=1e-4)
    assert losses["mouth"].item() == pytest.approx(3 * error[step.mouth].mean().item(), rel=1e-4)
    assert all(torch.equal(before[name], value) for name, value in networks.modules["net_dI"].state_dict().items())


def test_lips_are_compared_as_the_reader_reads_them():
    torch.manual_seed(0)
    reader = LipShapeRegressor(dropout=0.5)
    networks = trained({"net_g": generator(), "net_dI": discriminator(3)})
    weights = LossWeights(lamb_perception=0, lamb_gan=0, lamb_lips=2)
    step = FrameStep(networks, None, mouth_region(MOUTH), weights, reader)
    batch = frame_batch()
    kept = {name: value.clone() for name, value in reader.state_dict().items()}
    with torch.no_grad():
        fake = networks.modules["net_g"](step._masked(batch["source"]), batch["reference"], batch["audio"])
        wanted = 2 * (reader(fake[step.mouth]) - reader(batch["source"][step.mouth])).square().mean()
    losses = step(**batch)
    assert set(losses) == {"lips"}
    assert losses["lips"].item() == pytest.approx(wanted.item(), rel=1e-4)
    assert networks.optimizer_steps["net_g"].gradient_norm > 0
    assert all(torch.equal(kept[name], value) for name, value in reader.state_dict().items())
    figures = step.evaluate(**batch | {"reference": batch["source"].repeat(1, 5, 1, 1)})
    assert figures["lips_of_mean_reference"] < 1e-6 * figures["lips"]


def taught_step(kind: type[FrameStep], networks: TrainingNetworks, *others: torch.nn.Module, **teaching) -> FrameStep:
    """A step of both lip teachings, with a reader of mouths and a reader of speech."""
    torch.manual_seed(0)
    reader, teacher = LipShapeRegressor(), AudioToLipShape(29, 40, dropout=0.5)
    weights = LossWeights(lamb_perception=0, lamb_gan=0, lamb_l1=3, lamb_lips=2)
    return kind(networks, None, mouth_region(MOUTH), weights, *others, reader, teacher, LipSupervision(**teaching))


def opening_and_width(shapes: torch.Tensor) -> torch.Tensor:
    points = shapes.unflatten(-1, (20, 2))
    return torch.stack([points[:, 18, 1] - points[:, 14, 1], points[:, 6, 0] - points[:, 0, 0]], -1)


def test_lips_move_as_many_times_as_far_as_the_speech_tells():
    networks = trained({"net_g": generator(), "net_dI": discriminator(3)})
    step, batch = taught_step(FrameStep, networks, lip_gain=2.5), frame_batch()
    with torch.no_grad():
        fake = networks.modules["net_g"](step._masked(batch["source"]), batch["reference"], batch["audio"])
        aim = step.reader(batch["source"][step.mouth]) + 1.5 * opening_and_width(step.teacher(batch["audio"]))
        wanted = 2 * (step.reader(fake[step.mouth]) - aim).square().mean()
    losses = step(**batch)
    assert losses["lips"].item() == pytest.approx(wanted.item(), rel=1e-4)
    assert losses["l1"].item() == pytest.approx(3 * (fake - batch["source"]).abs().mean().item(), rel=1e-4)


def test_swapped_speech_is_judged_by_its_lips_alone():
    networks = trained({"net_g": generator(), "net_dI": discriminator(3)})
    step, batch = taught_step(FrameStep, networks, swap_speech=0.5), frame_batch()
    assert BATCH == 2
    own, other = batch["audio"][:1], batch["audio"][1:]
    wanted = []
    for swapped in (0, 1):
        heard = batch["audio"].clone()
        heard[swapped] = (other, own)[swapped][0]
        with torch.no_grad():
            fake = networks.modules["net_g"](step._masked(batch["source"]), batch["reference"], heard)
            aim = step.reader(batch["source"][step.mouth])
            aim += opening_and_width(step.teacher(heard)) - opening_and_width(step.teacher(batch["audio"]))
            lips = 2 * (step.reader(fake[step.mouth]) - aim).square().mean()
            wanted.append((lips.item(), 3 * (fake - batch["source"])[1 - swapped].abs().mean().item()))
    losses = step(**batch)
    assert any((losses["lips"].item(), losses["l1"].item()) == pytest.approx(each, rel=1e-4) for each in wanted)


def test_a_clip_hears_the_whole_speech_of_another():
    heard = {}

    class Generator(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.level = torch.nn.Parameter(torch.zeros(1))

        def forward(self, source, reference, audio):
            heard["frames"] = audio
            return source + self.level

    class Sync(torch.nn.Module):
        def forward(self, mouths, audio):
            heard["clips"] = audio
            return mouths.mean((1, 2, 3))

    networks = trained({"net_g": Generator(), "net_dI": discriminator(3), "net_dV": discriminator(15)})
    step = taught_step(ClipStep, networks, Sync(), swap_speech=0.5)
    audio = torch.arange(2.0)[:, None, None, None].expand(2, CLIP_FRAMES, 29, 5)
    losses = step(
        source=uniform_tensor(1, 2, CLIP_FRAMES, 3, HEIGHT, WIDTH),
        reference=uniform_tensor(2, 2, CLIP_FRAMES, 15, HEIGHT, WIDTH),
        audio=audio,
        clip_audio=audio[:, 0].repeat(1, 1, 2)[..., :9],
    )
    clips = heard["clips"][:, 0, 0].tolist()
    assert clips in ([0, 0], [1, 1])
    assert heard["frames"][:, 0, 0].tolist() == clips * CLIP_FRAMES
    assert set(losses) == {"l1", "lips", "sync"}


@pytest.mark.slow  # where the processor has no bf16
def test_lips_are_compared_in_mixed_precision():
    networks = trained({"net_g": generator(), "net_dI": discriminator(3)}, amp="bf16")
    weights = LossWeights(lamb_perception=0, lamb_gan=0, lamb_lips=2)
    step = FrameStep(networks, None, mouth_region(MOUTH), weights, LipShapeRegressor())
    assert 0 < step(**frame_batch())["lips"].item() < math.inf


def test_the_reported_correlation_is_that_over_all_batches():
    class Told(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, given):
            return given

    step = LipStep(trained({"net_m": Told()}), "net_m", "mouths", {"opening": lambda lips: lips[:, 0]})
    true = normal_tensor(5, 21, 2) + 3
    told = true + normal_tensor(6, 21, 2)
    totals: dict[str, float] = {}
    for start in range(0, 21, 4):  # the last batch has one sample
        part = slice(start, start + 4)
        for name, value in step.evaluate(lips=true[part], mouths=told[part]).items():
            totals[name] = totals.get(name, 0) + value.item() * len(true[part]) / 21
    figures = step.summarise(totals)
    assert set(figures) == {"lips", "lips_of_rest", "opening_correlation"}
    wanted = torch.corrcoef(torch.stack([true[:, 0], told[:, 0]]))[0, 1].item()
    assert figures["opening_correlation"] == pytest.approx(wanted, abs=1e-4)
    assert step.summarise(dict.fromkeys(totals, 0.0))["opening_correlation"] == 0


def test_a_mouth_is_read_at_any_size():
    torch.manual_seed(0)
    reader = LipShapeRegressor().eval()
    small = torch.nn.functional.interpolate(uniform_tensor(1, 2, 3, 8, 8), 64, mode="bicubic")
    large = torch.nn.functional.interpolate(small, 256, mode="bilinear")
    assert torch.allclose(reader(small), reader(large), atol=0.02 * reader(small).std().item() + 5e-3)
    assert torch.isfinite(reader(torch.zeros(1, 3, 64, 64))).all()
    board = 0.2 * (torch.arange(256)[:, None] + torch.arange(256)).remainder(2).mul(2).sub(1)
    assert torch.allclose(reader(large), reader(large + board), atol=0.05 * reader(small).std().item())


def test_chance_is_readable_off_the_sync_figures():
    networks = trained({"net": SyncPairs()})
    step = SyncStep(networks)
    step.pairs = lambda *batch: (torch.full((4, 2, 2), 0.5), torch.full((4, 1, 2, 2), 0.5), None, None)
    figures = step.evaluate(*(torch.zeros(4, 1) for _ in range(3)))
    assert figures["sync"].item() == pytest.approx(0.25)
    assert figures["accuracy"].item() == pytest.approx(0.5)
    assert figures["pair_accuracy"] == 0


def test_channels_last_is_a_layout_and_nothing_else():
    networks = trained({"net_dI": discriminator(3)}, channels_last=True)
    picture = uniform_tensor(1, 1, 3, 64, 64)
    assert networks.modules["net_dI"].down_blocks[1].conv.weight.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert torch.allclose(networks.modules["net_dI"](picture)[1], discriminator(3)(picture)[1], atol=1e-5)


@pytest.mark.parametrize(("epoch", "factor"), [(1, 1), (200, 1), (201, 200 / 201), (400, 1 / 201)])
def test_the_learning_rate_is_constant_and_then_falls(epoch, factor):
    assert learning_rate_factor(epoch, 200, 200) == pytest.approx(factor)


def test_a_step_without_a_finite_gradient_is_skipped_and_a_large_one_clipped():
    network = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    update = OptimizerStep(network, optimizer, torch.amp.GradScaler("cpu", enabled=False), clip_grad=0.5)
    before = [parameter.clone() for parameter in network.parameters()]
    update(network(torch.tensor([[math.inf, 1.0]])).sum() * 0)
    assert update.skipped_steps == 1
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    update(100 * network(torch.ones(1, 2)).sum())
    moved = torch.cat([(a - b).flatten() for a, b in zip(before, network.parameters(), strict=True)])
    assert update.skipped_steps == 0 and update.gradient_norm > 100
    assert moved.norm().item() == pytest.approx(0.5, rel=1e-3)


def test_mixed_precision_runs_in_bf16_and_fp16_is_refused_on_a_cpu():
    with make_autocast("bf16", CPU)():
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.bfloat16
    with make_autocast("off", CPU)():
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.float32
    with pytest.raises(UserError, match="--amp: fp16"):
        make_autocast("fp16", CPU)


def test_bf16_losses_are_close_to_those_of_fp32():
    mouths, audio, other = uniform_tensor(1, 2, 15, 32, 32), normal_tensor(2, 2, 29, 9), normal_tensor(3, 2, 1, 29, 9)
    losses = []
    for amp in ("off", "bf16"):
        pairs = SyncPairs()
        pairs.load_state_dict(syncnet().state_dict())
        losses.append(SyncStep(trained({"net": pairs}, amp=amp))(mouths, audio, other)["sync"].item())
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_the_average_of_the_weights_follows_the_network():
    network = torch.nn.Linear(1, 1, bias=False)
    networks = trained({"net_g": network}, ema=0.9)
    values = []
    for value in (1.0, 2.0, 3.0):
        network.weight.data.fill_(value)
        networks.update_ema()
        values.append(networks.eval_module("net_g").weight.item())
    assert values == pytest.approx([1.0, 1.1, 1.29])
    assert set(networks.checkpoint_networks()) == {"net_g", "net_g_ema"}


def test_the_average_has_averaged_statistics_and_whole_indices():
    network = torch.nn.BatchNorm1d(2)
    network.register_buffer("place", torch.tensor([-1, 5]), persistent=False)
    networks = trained({"net_g": network}, ema=0.99)
    for value in (1.0, 2.0):
        network.running_mean.fill_(value)
        network.num_batches_tracked.add_(1)
        networks.update_ema()
    average = networks.eval_module("net_g")
    assert average.running_mean.tolist() == pytest.approx([1.01, 1.01])
    assert average.place.tolist() == [-1, 5] and average.num_batches_tracked == 2


def test_gradients_are_those_of_a_least_squares_gan():
    # The discriminator's loss, halved over fake and real, as published.
    networks = trained({"net_g": generator(), "net_dI": discriminator(3)})
    networks.optimizer_steps["net_g"] = lambda loss: None
    captured = []
    networks.optimizer_steps["net_dI"] = captured.append
    step = FrameStep(networks, tiny_perceptual(), mouth_region(MOUTH), LossWeights())
    batch = frame_batch()
    step(**batch)
    net_dI = discriminator(3)
    masked = batch["source"].clone()
    masked[(..., *mouth_region(MOUTH))] = 0
    fake = generator().train()(masked, batch["reference"], batch["audio"])
    expected = ((net_dI(fake)[1] ** 2).mean() + ((net_dI(batch["source"])[1] - 1) ** 2).mean()) / 2
    assert captured[0].item() == pytest.approx(expected.item(), rel=1e-4)


def test_decoupled_weight_decay_is_used_only_if_asked_for():
    network = torch.nn.Linear(1, 1)
    assert type(make_optimizer(network, 1e-4)) is torch.optim.Adam
    assert make_optimizer(network, 1e-4, 0.01).param_groups[0]["weight_decay"] == 0.01


def test_pictures_that_share_references_are_as_if_each_had_its_own():
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
        step = FrameStep(networks, tiny_perceptual(), mouth_region(MOUTH), LossWeights(lamb_l1=1))
        evaluated.append(step.evaluate(**some))
        assert step.pictures(**some).shape[1:] == (8, 3, HEIGHT, WIDTH)
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
        step = FrameStep(networks, None, mouth_region(MOUTH), weights)
        return step._picture_losses(fake, real, slice(None))["mouth"].item() * MOUTH**2

    lips, chin = (MOUTH // 2, MOUTH // 2), (MOUTH - 2, MOUTH // 2)
    assert loss(1, *lips) == pytest.approx(1) == loss(1, *chin)
    assert loss(4, *lips) == pytest.approx(4 * loss(4, *chin), rel=0.01)
    everywhere = FrameStep(networks, None, mouth_region(MOUTH), LossWeights(0, 0, 0, 1, lip_focus=4))
    assert everywhere._picture_losses(real + 1, real, slice(None))["mouth"].item() == pytest.approx(1)


def test_the_perception_loss_can_look_at_the_mouth_alone():
    networks = trained({"net_g": generator(), "net_dI": discriminator(3)})
    rows, columns = mouth_region(MOUTH)
    real = torch.rand(1, 3, HEIGHT, WIDTH)
    fake = torch.rand(1, 3, HEIGHT, WIDTH)
    fake[..., rows, columns] = real[..., rows, columns]
    for region, differs in (("picture", True), ("mouth", False)):
        weights = LossWeights(lamb_gan=0, perception_region=region)
        step = FrameStep(networks, tiny_perceptual(), mouth_region(MOUTH), weights)
        loss = step._picture_losses(fake, real, slice(None))["perception"].item()
        # The two scales halve fake and real differently, so that equal pictures are not quite equal there.
        equal = step._picture_losses(real, real, slice(None))["perception"].item()
        assert (loss > 2 * equal) == differs


def test_a_teacher_may_hear_other_features_than_the_generator():
    class Teacher(torch.nn.Module):
        def forward(self, heard):
            return heard.mean((1, 2))[:, None].expand(-1, 40)

    networks = trained({"net_g": generator(), "net_dI": discriminator(3)})
    weights = LossWeights(lamb_perception=0, lamb_gan=0, lamb_lips=1)
    step = FrameStep(
        networks, None, mouth_region(MOUTH), weights, LipShapeRegressor(), Teacher(), LipSupervision(lip_gain=2)
    )
    losses = step(**frame_batch(), teacher_audio=torch.randn(BATCH, 80, 20))
    assert losses["lips"].isfinite()
