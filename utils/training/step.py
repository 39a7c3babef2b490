"""What the training steps of all stages have in common."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

Losses = dict[str, torch.Tensor]
"""Scalars by name."""


class TrainingStep:
    """A stage's training step, on batches whose entries are its keyword arguments."""

    def __call__(self, **batch: torch.Tensor) -> Losses:
        """Train on a batch; returns losses by name, scalars without gradient."""
        raise NotImplementedError

    def evaluate(self, **batch: torch.Tensor) -> Losses:
        """Means over a held-out batch by name, scalars; changes nothing."""
        raise NotImplementedError

    def summarise(self, means: dict[str, float]) -> dict[str, float]:
        """The metrics to report, from the results of `evaluate` averaged over all held-out samples: the same."""
        return means

    def images(self, **batch: torch.Tensor) -> torch.Tensor | None:
        """Rows of sample images for the log, [N, K, 3, H, W] in [0, 1]: none."""
        return None


def unwrap_ddp(network: nn.Module) -> nn.Module:
    """The network inside DistributedDataParallel, which allows one forward and backward pass per step only."""
    return network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network


@contextlib.contextmanager
def frozen_parameters(network: nn.Module) -> Iterator[nn.Module]:
    """Compute no gradients of the network's parameters in forward passes inside the block; they would not be used."""
    network.requires_grad_(False)
    try:
        yield network
    finally:
        network.requires_grad_(True)


@contextlib.contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """Put a network into eval mode inside the block."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
