"""The networks of a training: on the device, wrapped for several processes, with optimizers, EMA and checkpoints."""

import copy
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.dinet import MAX_STRIDE
from models.discriminator import min_image_side
from utils.checkpoints import EMA_SUFFIX, Checkpoint, load_network
from utils.distributed import DistInfo, wrap_ddp
from utils.errors import UserError
from utils.face.crop_geometry import network_size
from utils.training.optimizer import OptimizerStep, check_optimizer, make_autocast, make_optimizer
from utils.training.settings import NetworkSettings, OptimisationSettings

logger = logging.getLogger(__name__)


class TrainingNetworks:
    """Networks by their names in checkpoints, with optimizers, moving averages and autocast.

    `modules`: the unwrapped networks; `ddp`: the same wrapped in DistributedDataParallel (unwrapped in a single
    process), for the forward passes of the training; `ema`: exponential moving averages of their weights;
    `optimizer_steps`: callables that take a network's step from its loss; `autocast` makes the context for forward
    passes.

    Args:
        networks: by name; changed in place.
        learning_rates: of each network at the start.
        settings: see OptimisationSettings; `ema` is of the generator, net_g.
        dist_info: of the distributed training.
        device: where to train.

    Raises:
        UserError: mixed precision that the device cannot do.
    """

    def __init__(
        self,
        networks: dict[str, nn.Module],
        learning_rates: dict[str, float],
        settings: OptimisationSettings,
        dist_info: DistInfo,
        device: torch.device,
    ):
        self.device = device
        self.autocast = make_autocast(settings.amp, device)
        if settings.amp == "bf16" and device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            logger.warning("--amp bf16: this CPU has no instructions for it, it is many times slower than off")
        channels_last = device.type == "cuda" if settings.channels_last is None else settings.channels_last
        self._memory_format = torch.channels_last if channels_last else torch.preserve_format
        self.modules = {name: self.to_device(network).train() for name, network in networks.items()}
        self.ema: dict[str, AveragedModel] = {}
        if settings.ema:
            # With the norms' statistics, which small batches leave as noisy as the weights.
            average = AveragedModel(self.modules["net_g"], multi_avg_fn=_ema_update(settings.ema), use_buffers=True)
            self.ema["net_g"] = average.eval()
        self.ddp = {name: wrap_ddp(network, dist_info, device) for name, network in self.modules.items()}
        if settings.compile:
            for network in self.modules.values():
                network.compile()
        self._learning_rates = learning_rates
        self.optimizer_steps = {
            name: OptimizerStep(
                network,
                make_optimizer(network, learning_rates[name], settings.weight_decay),
                torch.amp.GradScaler(device.type, enabled=settings.amp == "fp16"),
                settings.clip_grad,
            )
            for name, network in self.modules.items()
        }

    def to_device(self, network: nn.Module) -> nn.Module:
        """Move a network to the device, in the memory layout of the training."""
        return network.to(self.device, memory_format=self._memory_format)

    def update_ema(self) -> None:
        """Update the moving averages with the current weights."""
        for name, average in self.ema.items():
            average.update_parameters(self.modules[name])

    def eval_module(self, name: str) -> nn.Module:
        """The network to evaluate: the moving average of its weights if there is one."""
        return self.ema[name].module if name in self.ema else self.modules[name]

    def set_learning_rates(self, factor: float) -> dict[str, float]:
        """Set each learning rate to `factor` times the initial one; returns them by network."""
        rates = {name: rate * factor for name, rate in self._learning_rates.items()}
        for name, update in self.optimizer_steps.items():
            for group in update.optimizer.param_groups:
                group["lr"] = rates[name]
        return rates

    def checkpoint_networks(self) -> dict[str, nn.Module]:
        """Entries of a checkpoint's state_dict."""
        return self.modules | {f"{name}{EMA_SUFFIX}": average.module for name, average in self.ema.items()}

    def checkpoint_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Entries of a checkpoint's optimizer entry."""
        return {name: update.optimizer for name, update in self.optimizer_steps.items()}

    def checkpoint_extra(self) -> dict[str, Any]:
        """Further state that the networks need to continue: loss scales."""
        return {"scalers": {name: update.scaler.state_dict() for name, update in self.optimizer_steps.items()}}

    def resume(self, checkpoint: Checkpoint, option: str) -> None:
        """Load networks, optimizers and moving averages of a checkpoint, ours or published.

        Raises:
            UserError: a checkpoint of another stage or other networks.
        """
        trained = {name for name in checkpoint.networks if not name.endswith(EMA_SUFFIX)}
        if trained != set(self.modules):
            raise UserError(
                f"{option}: {checkpoint.path} is {checkpoint.describe()}, one of {', '.join(self.modules)} is needed: "
                "that is another stage; name a folder of its own"
            )
        for name, network in self.modules.items():
            load_network(network, checkpoint, name, option)
            self._resume_optimizer(checkpoint, name, option)
        for name, average in self.ema.items():
            load_network(average.module, checkpoint, checkpoint.averaged(name), option)
            average.n_averaged.fill_(1)  # the first update would otherwise overwrite what was loaded
        for name, state in checkpoint.extra.get("scalers", {}).items():
            if state and name in self.optimizer_steps:
                self.optimizer_steps[name].scaler.load_state_dict(state)

    def _resume_optimizer(self, checkpoint: Checkpoint, name: str, option: str) -> None:
        state = checkpoint.optimizers.get(name)
        if state is None:
            logger.warning(f"{checkpoint.path} has no optimizer of {name}: it starts from zero")
            return
        optimizer = self.optimizer_steps[name].optimizer
        own = {k: v for k, v in optimizer.param_groups[0].items() if k not in ("params", "lr", "betas", "eps")}
        try:
            # A copy, because the checkpoint is mapped from its file.
            optimizer.load_state_dict(copy.deepcopy(state))
            check_optimizer(optimizer)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(
                f"{option}: {checkpoint.path}: the optimizer of {name} does not fit ({error}); "
                "start without it or name another checkpoint"
            ) from None
        for group in optimizer.param_groups:
            group.update(own)


def check_sizes(
    settings: NetworkSettings,
    mouth_region_size: int,
    batch_size: int,
    gan: bool,
    hint: str = "use a larger mouth region, fewer blocks (--D_num_blocks) or no discriminator (--lamb_gan 0)",
) -> None:
    """Refuse a mouth region or a batch that is too small for the networks of the DINet stages.

    Args:
        settings: see NetworkSettings.
        mouth_region_size: side of the mouth region in pixels.
        batch_size: frames per step, over all processes.
        gan: the discriminators are trained.
        hint: what to do about crops that are too small for the discriminator.

    Raises:
        UserError: naming the option.
    """
    height, width = network_size(mouth_region_size)
    needed = min_image_side(settings.D_num_blocks)
    if gan and min(height, width) < needed:
        raise UserError(
            f"--mouth_region_size: {mouth_region_size} has crops of {width} x {height} pixels, and a discriminator of "
            f"{settings.D_num_blocks} blocks needs {needed} x {needed}; {hint}"
        )
    smallest_map = math.ceil(height / MAX_STRIDE) * math.ceil(width / MAX_STRIDE)
    if batch_size * smallest_map == 1 and not settings.freeze_norms:
        raise UserError(
            f"--batch_size: 1 leaves the batch norm a single value per channel at --mouth_region_size "
            f"{mouth_region_size}; use at least 2"
        )


def _ema_update(decay: float) -> Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor], Any], None]:
    """Update rule of the moving averages; integers, such as counters and indices, are copied."""
    move = get_ema_multi_avg_fn(decay)

    def update(averages: Sequence[torch.Tensor], values: Sequence[torch.Tensor], count: Any) -> None:
        if averages[0].is_floating_point():
            move(averages, values, count)
            return
        for average, value in zip(averages, values, strict=True):
            average.copy_(value)

    return update
