"""Optimizer steps, mixed precision and the learning-rate schedule."""

import math

import pytest
import torch
from helpers.training_steps import CPU

from utils.errors import UserError
from utils.training.optimizer import OptimizerStep, learning_rate_factor, make_autocast, make_optimizer


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


def test_decoupled_weight_decay_is_used_only_if_asked_for():
    network = torch.nn.Linear(1, 1)
    assert type(make_optimizer(network, 1e-4)) is torch.optim.Adam
    assert make_optimizer(network, 1e-4, 0.01).param_groups[0]["weight_decay"] == 0.01
