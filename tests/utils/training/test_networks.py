"""Networks in training: memory layout and moving averages."""

import pytest
import torch
from golden.networks import (
    discriminator,
    uniform_tensor,
)
from helpers.training_steps import trained


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
