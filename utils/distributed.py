"""Training in several processes: start-up from torchrun's variables, shared statistics and gradients."""

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from utils.device import choose_device


@dataclass(frozen=True)
class Processes:
    """The processes that train together, and which of them this one is."""

    rank: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """True in the one that writes files and talks."""
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """`values` added up over all processes; the same in each."""
        if self.count > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.barrier()


@contextlib.contextmanager
def training_processes(device_name: str) -> Iterator[tuple[Processes, torch.device]]:
    """Join the processes that torchrun started, if it did; give them and the device of this one.

    Raises:
        UserError: a device that is not there.
    """
    count = int(os.environ.get("WORLD_SIZE", 1))
    device = choose_device(device_name)
    torch.backends.cudnn.benchmark = True  # all batches have the same size
    if count == 1:
        yield Processes(), device
        return
    if device.type == "cuda":
        device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    processes = Processes(dist.get_rank(), count)
    if not processes.is_main:
        logging.getLogger().setLevel(logging.ERROR)
    try:
        yield processes, device
    finally:
        dist.destroy_process_group()


def share_training(network: nn.Module, processes: Processes, device: torch.device) -> nn.Module:
    """`network`, which is on `device`, so wrapped that all processes take the step of the whole batch together.

    Its batch norms are replaced in place by ones with the statistics of the whole batch.
    """
    if processes.count == 1:
        return network
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
    else:
        _share_batch_norms(network)
    return DistributedDataParallel(
        network,
        device_ids=[device] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
    )


class SharedBatchNorm(_BatchNorm):
    """BatchNorm whose statistics are those of all processes' batches together, which must be of equal size.

    What torch.nn.SyncBatchNorm does on GPUs alone.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, channels, ...] to the same."""
        if not self.training:
            return super().forward(x)
        dims = [0, *range(2, x.dim())]
        shape = [1, -1] + [1] * (x.dim() - 2)
        count = x.numel() // x.shape[1] * dist.get_world_size()
        mean = _Sum.apply(x.sum(dims)) / count
        centred = x - mean.view(shape)
        # In two passes: the difference of large squares would lose what the norm is for.
        variance = _Sum.apply(centred.square().sum(dims)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale.view(shape) + self.bias.view(shape)

    def _check_input_dim(self, x: torch.Tensor) -> None:
        pass


class _Sum(torch.autograd.Function):
    """Sum over processes; so is its gradient, since every process's loss depends on every summand."""

    @staticmethod
    def forward(ctx, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _share_batch_norms(network: nn.Module) -> None:
    for name, child in network.named_children():
        if isinstance(child, _BatchNorm):
            shared = SharedBatchNorm(child.num_features, child.eps, child.momentum)
            shared.train(child.training)
            # Not copies: optimizers may hold the parameters already.
            for key, parameter in child.named_parameters():
                setattr(shared, key, parameter)
            for key, buffer in child.named_buffers():
                setattr(shared, key, buffer)
            setattr(network, name, shared)
        else:
            _share_batch_norms(child)
