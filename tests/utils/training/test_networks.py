"""Networks in training: memory layout and moving averages."""

from pathlib import Path

import pytest
import torch
from golden.networks import (
    discriminator,
    uniform_tensor,
)
from helpers.training_steps import trained

from utils.checkpoints import Checkpoint
from utils.errors import UserError
from utils.training.networks import TrainingNetworks


def test_channels_last_is_a_layout_and_nothing_else():
    networks = trained({"net_dI": discriminator(3)}, channels_last=True)
    picture = uniform_tensor(1, 1, 3, 64, 64)
    assert networks.modules["net_dI"].down_blocks[1].conv.weight.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert torch.allclose(networks.modules["net_dI"](picture)[1], discriminator(3)(picture)[1], atol=1e-5)


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


def adam_state() -> dict:
    return {
        "state": {0: {"step": torch.ones(()), "exp_avg": torch.zeros(1, 1), "exp_avg_sq": torch.zeros(1, 1)}},
        "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "params": [0]}],
    }


def resume(optimizer) -> TrainingNetworks:
    networks = trained({"net_g": torch.nn.Linear(1, 1, bias=False)})
    state = {"net_g": {"weight": torch.ones(1, 1)}}
    networks.resume(Checkpoint(Path("one.pth"), state, optimizers={"net_g": optimizer}), "--result_path")
    return networks


def test_an_optimizer_of_another_version_is_resumed():
    assert resume(adam_state()).optimizer_steps["net_g"].optimizer.param_groups[0]["fused"]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("param_groups",), 3),
        (("param_groups", 0, "lr"), "x"),
        (("param_groups", 0, "eps"), float("nan")),
        (("param_groups", 0, "betas"), None),
        (("param_groups", 0, "betas"), (0.9, 0.9, 0.9)),
        (("state",), []),
        (("state", 0), None),
        (("state", 0, "exp_avg"), torch.zeros(7)),
        (("state", 0, "exp_avg"), "x"),
        (("state", 0, "step"), torch.zeros(3)),
        ((), [1]),
    ],
)
def test_what_stands_in_an_optimizer_is_not_believed(place, value):
    state = holder = {"optimizer": adam_state()}
    *way, last = ("optimizer", *place)
    for key in way:
        holder = holder[key]
    holder[last] = value
    with pytest.raises(UserError, match=r"^--result_path: one.pth: the optimizer of net_g does not fit .*; start"):
        resume(state["optimizer"])
