"""Optimizer steps: mixed precision, gradient clipping, what to do about gradients that are not finite."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from utils.errors import UserError

MAX_SKIPPED_STEPS = 30
"""Steps without a finite gradient that are borne; a new loss scale of fp16 takes up to 16 to be found."""


class OptimizerStep:
    """One optimizer step of one network, from a loss.

    A step whose gradient is not finite is skipped. With several processes the gradient, and so the decision, is the
    same in all of them.

    Args:
        network: whose parameters the optimizer holds.
        optimizer: takes the step.
        scaler: of the loss, for fp16; may be disabled.
        clip_grad: largest norm of the gradient; 0 for any.
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
    """What makes the context for a forward pass with `--amp` off, bf16 or fp16.

    Raises:
        UserError: fp16 on a CPU.
    """
    if amp == "fp16" and device.type == "cpu":
        raise UserError("--amp: fp16 is for GPUs; use bf16 or off on a CPU")
    dtype = torch.float16 if amp == "fp16" else torch.bfloat16
    return partial(torch.autocast, device.type, dtype=dtype, enabled=amp != "off")


def learning_rate_factor(epoch: int, non_decay: int, decay: int) -> float:
    """Share of the full learning rate in an epoch (the first is 1): constant, then falling linearly towards zero."""
    return 1 - max(0, epoch - non_decay) / (decay + 1)


def make_optimizer(network: nn.Module, learning_rate: float, weight_decay: float = 0) -> torch.optim.Optimizer:
    """Adam with the published betas; `weight_decay` is decoupled from the gradient."""
    options: dict[str, Any] = {"lr": learning_rate, "fused": True}
    if weight_decay:
        return torch.optim.AdamW(network.parameters(), weight_decay=weight_decay, **options)
    return torch.optim.Adam(network.parameters(), **options)
