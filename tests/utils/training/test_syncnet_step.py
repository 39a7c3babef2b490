"""The training step of SyncNet."""

import math

import pytest
import torch
from golden.networks import (
    MOUTH,
    normal_tensor,
    syncnet,
    uniform_tensor,
)
from helpers.training_steps import trained

from models.syncnet import SyncNet
from utils.training.syncnet_step import SyncStep


@pytest.mark.parametrize("contrast", [0.0, 0.5])
def test_the_sync_step_is_that_of_a_plain_loop(contrast):
    # In double precision: Adam's first step is the sign of the gradient, which rounding turns where there is none.
    mouths = uniform_tensor(1, 3, 15, MOUTH, MOUTH).double()
    audio, others = normal_tensor(2, 3, 29, 9).double(), normal_tensor(3, 3, 2, 29, 9).double()
    pairs = SyncNet()
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


def test_lip_motion_trains_both_encoders_where_it_is_known():
    batch = {
        "mouths": uniform_tensor(1, 2, 15, 32, 32),
        "audio": normal_tensor(2, 2, 29, 9),
        "negative_audio": normal_tensor(3, 2, 3, 29, 9),
    }
    audio_lips = normal_tensor(4, 2, 4, 10)
    audio_lips[0, 0, 3] = audio_lips[1, 2] = math.nan
    lips = audio_lips[:, 0]
    networks = trained({"net": SyncNet()})
    step = SyncStep(networks, lamb_lips=1.0)
    before = step.evaluate(**batch, lips=lips, audio_lips=audio_lips)
    with torch.no_grad():
        *_, seen, heard = step.syncnet(*batch.values())
    for name, code, true, known in (("lips_seen", seen, lips, 19), ("lips_heard", heard, audio_lips, 69)):
        errors = ((code[..., :10] - true).square() + (code[..., 10:20] + true).square()) / 2
        assert before[name].item() == pytest.approx(errors.nansum().item() / known, rel=1e-5)
    for _ in range(10):
        step(**batch, lips=lips, audio_lips=audio_lips)
    after = step.evaluate(**batch, lips=lips, audio_lips=audio_lips)
    assert all(after[name] < before[name] for name in ("lips_seen", "lips_heard"))
    assert not {"lips_seen", "lips_heard"} & set(step.evaluate(**batch))


def test_the_metrics_of_chance_are_the_documented_ones():
    networks = trained({"net": SyncNet()})
    step = SyncStep(networks)
    step.syncnet = lambda *batch: (torch.full((4, 2, 2), 0.5), torch.full((4, 1, 2, 2), 0.5), None, None)
    figures = step.evaluate(*(torch.zeros(4, 1) for _ in range(3)))
    assert figures["sync"].item() == pytest.approx(0.25)
    assert figures["accuracy"].item() == pytest.approx(0.5)
    assert figures["pair_accuracy"] == 0


def test_bf16_losses_are_close_to_those_of_fp32():
    mouths, audio, other = uniform_tensor(1, 2, 15, 32, 32), normal_tensor(2, 2, 29, 9), normal_tensor(3, 2, 1, 29, 9)
    losses = []
    for amp in ("off", "bf16"):
        pairs = SyncNet()
        pairs.load_state_dict(syncnet().state_dict())
        losses.append(SyncStep(trained({"net": pairs}, amp=amp))(mouths, audio, other)["sync"].item())
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
