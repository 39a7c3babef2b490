"""Distributed training: process group from torchrun's variables, DistributedDataParallel, synchronised batch norm."""

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
class DistInfo:
    """Rank of this process and number of processes of a distributed training; the defaults are a single process."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """True in the process that writes files and logs."""
        return self.rank == 0

    def all_reduce_sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of `values` over all processes; the same in each."""
        if self.world_size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def barrier(self) -> None:
        """Wait until all processes have reached this point."""
        if self.world_size > 1:
            dist.barrier()


@contextlib.contextmanager
def init_distributed(device_name: str) -> Iterator[tuple[DistInfo, torch.device]]:
    """Join the process group of torchrun, if it started this process; yields it and the device of this process.

    Raises:
        UserError: a device that is not there.
    """
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    device = choose_device(device_name)
    torch.backends.cudnn.benchmark = True  # all batches have the same size
    if world_size == 1:
        yield DistInfo(), device
        return
    if device.type == "cuda":
        device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    dist_info = DistInfo(dist.get_rank(), world_size)
    if not dist_info.is_main:
        logging.getLogger().setLevel(logging.ERROR)
    try:
        yield dist_info, device
    finally:
        dist.destroy_process_group()


def wrap_ddp(network: nn.Module, dist_info: DistInfo, device: torch.device) -> nn.Module:
    """Wrap `network`, which is on `device`, in DistributedDataParallel; a single process gets it back unchanged.

    Its batch norms are replaced in place by ones with the statistics of the whole batch.
    """
    if dist_info.world_size == 1:
        return network
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
    else:
        _convert_sync_batchnorm(network)
    return DistributedDataParallel(
        network,
        device_ids=[device] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
    )


class CpuSyncBatchNorm(_BatchNorm):
    """BatchNorm with the statistics of all processes' batches together, which must have equal sizes.

    torch.nn.SyncBatchNorm does the same, but on GPUs only.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, channels, ...] to the same."""
        if not self.training:
            return super().forward(x)
        dims = [0, *range(2, x.dim())]
        shape = [1, -1] + [1] * (x.dim() - 2)
        count = x.numel() // x.shape[1] * dist.get_world_size()
        mean = _AllReduceSum.apply(x.sum(dims)) / count
        centred = x - mean.view(shape)
        # In two passes: the difference of large squares would lose what the norm is for.
        variance = _AllReduceSum.apply(centred.square().sum(dims)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale.view(shape) + self.bias.view(shape)

    def _check_input_dim(self, x: torch.Tensor) -> None:
        pass


class _AllReduceSum(torch.autograd.Function):
    """Sum over processes; its gradient is summed too, since every process's loss depends on every summand.

    torch.distributed.nn.functional.all_reduce does the same, but PyTorch 2.15 deprecates it, and what it names instead
    has no gradient in PyTorch 2.6.
    """

    @staticmethod
    def forward(ctx, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return _AllReduceSum.apply(gradient)


def _convert_sync_batchnorm(network: nn.Module) -> None:
    """Replace the batch norms inside by CpuSyncBatchNorm, in place; as nn.SyncBatchNorm.convert_sync_batchnorm."""
    for name, child in network.named_children():
        if isinstance(child, _BatchNorm):
            synced = CpuSyncBatchNorm(child.num_features, child.eps, child.momentum)
            synced.train(child.training)
            # Not copies: optimizers may hold the parameters already.
            for key, parameter in child.named_parameters():
                setattr(synced, key, parameter)
            for key, buffer in child.named_buffers():
                setattr(synced, key, buffer)
            setattr(network, name, synced)
        else:
            _convert_sync_batchnorm(child)
