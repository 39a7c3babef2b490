"""Optimizer steps (mixed precision, gradient clipping, non-finite gradients) and the learning-rate schedule."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from utils.errors import UserError

MAX_SKIPPED_STEPS = 30
"""Maximum consecutive steps with non-finite gradients before training stops; the loss scale of fp16 needs up to 16 to
settle."""


class OptimizerStep:
    """One optimizer step of one network, from a loss.

    A step whose gradient is not finite is skipped. With several processes the gradient, and so the decision, is the
    same in all of them.

    Args:
        network: whose parameters the optimizer holds.
        optimizer: takes the step.
        scaler: of the loss, for fp16; may be disabled.
        clip_grad: maximum gradient norm; 0 disables clipping.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        clip_grad: float = 0,
    ):
        self.network = network
        self.optimizer = optimizer
        self.scaler = scaler
        self.clip_grad = clip_grad
        self.gradient_norm = math.nan
        self.skipped_steps = 0

    def __call__(self, loss: torch.Tensor) -> None:
        """Back-propagate `loss` and take the step."""
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        parameters = list(self.network.parameters())
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        self.gradient_norm = norm.item()
        if math.isfinite(self.gradient_norm):
            if self.clip_grad:
                nn.utils.clip_grads_with_norm_(parameters, self.clip_grad, norm)
            self.scaler.step(self.optimizer)
            self.skipped_steps = 0
        else:
            self.skipped_steps += 1
        self.scaler.update()


def make_autocast(amp: str, device: torch.device) -> Callable[[], torch.autocast]:
    """Return a function that makes the autocast context of a forward pass with `--amp` off, bf16 or fp16.

    Raises:
        UserError: fp16 on a CPU.
    """
    if amp == "fp16" and device.type == "cpu":
        raise UserError("--amp: fp16 is for GPUs; use bf16 or off on a CPU")
    dtype = torch.float16 if amp == "fp16" else torch.bfloat16
    return partial(torch.autocast, device.type, dtype=dtype, enabled=amp != "off")


def learning_rate_factor(epoch: int, non_decay: int, decay: int) -> float:
    """The published schedule: factor on the learning rate in an epoch, counted from 1.

    Constant for `non_decay` epochs, then 1 - (epoch - non_decay) / (decay + 1).
    """
    return 1 - max(0, epoch - non_decay) / (decay + 1)


def make_optimizer(network: nn.Module, learning_rate: float, weight_decay: float = 0) -> torch.optim.Optimizer:
    """Adam with the published betas; `weight_decay` is decoupled from the gradient."""
    options: dict[str, Any] = {"lr": learning_rate, "fused": True}
    if weight_decay:
        return torch.optim.AdamW(network.parameters(), weight_decay=weight_decay, **options)
    return torch.optim.Adam(network.parameters(), **options)


def check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """See that what an Adam optimizer was given from a file are the numbers that its steps need.

    Raises:
        KeyError, TypeError, ValueError: they are not.
    """
    for group in optimizer.param_groups:
        for name, numbers, most in (
            ("lr", [group["lr"]], math.inf),
            ("eps", [group["eps"]], 1),
            ("betas", group["betas"], 1),
        ):
            if not all(type(number) in (int, float) and 0 <= number < most for number in numbers):
                raise ValueError(f"{name} is {group[name]!r:.40}")
        if len(group["betas"]) != 2:
            raise ValueError(f"there are {len(group['betas'])} betas")
        for parameter in group["params"]:
            state = optimizer.state.get(parameter)
            for name, shape in (
                (("step", ()), ("exp_avg", parameter.shape), ("exp_avg_sq", parameter.shape)) if state else ()
            ):
                if state[name].shape != shape or state[name].dtype != torch.float32:
                    raise ValueError(f"{name} has other sizes than its parameter")
