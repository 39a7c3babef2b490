"""The training loop shared by every training script: epochs, checkpoints, resuming, reports."""

import contextlib
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from tqdm import tqdm

from utils.checkpoints import Checkpoint, Metadata, write_checkpoint
from utils.device import peak_memory
from utils.distributed import DistInfo
from utils.errors import UserError, make_folder
from utils.files import atomic_path
from utils.media.images import image_grid, write_png
from utils.training.checkpoint_folder import CheckpointFolder
from utils.training.log import MetricMeter, TrainingLog
from utils.training.networks import TrainingNetworks
from utils.training.optimizer import MAX_SKIPPED_STEPS, learning_rate_factor
from utils.training.pretrained import check_metadata
from utils.training.settings import TrainingSettings
from utils.training.signals import StopSignals, stop_signals
from utils.training.step import TrainingStep

logger = logging.getLogger(__name__)

RESULT_OPTION = "--result_path"
GRID_SAMPLES = 4
"""Samples in an image grid."""


class BatchSource(Protocol):
    """Source of batches: dataset.loading.Batches, which this layer may not import."""

    batch_size: int
    epoch_samples: int

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch."""

    def stream(self, epoch: int, step: int) -> Iterator[dict[str, torch.Tensor]]:
        """Endless batches, beginning at a step of an epoch."""

    def validation(self, count: int) -> Iterator[dict[str, torch.Tensor]]:
        """This process's part of `count` samples, which are always the same."""


_DAMAGES = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What PyTorch and Python raise where they are given a value of another kind."""
_MAX_STEP = 1 << 53  # a whole number in every format of logs


@dataclass
class TrainState:
    """Progress of a training: in `epoch`, after `step_in_epoch` of its steps and `step` steps in all."""

    epoch: int
    step_in_epoch: int = 0
    step: int = 0


class Trainer:
    """Trains until the last epoch, the last step or a signal.

    The learning rates follow the published schedule, utils.training.optimizer.learning_rate_factor.

    Args:
        file_prefix: of the checkpoints, see CheckpointFolder.
        step: computes the losses and takes the optimizer steps.
        networks: what is trained.
        data: to train on.
        held_out: by name, data to report on after every epoch.
        settings: see TrainingSettings.
        metadata: recorded in every checkpoint; must agree with that of a checkpoint that is resumed.
        dist_info: of the distributed training.

    Raises:
        UserError: the result folder cannot be written, or holds another training without --resume.
    """

    def __init__(
        self,
        file_prefix: str,
        step: TrainingStep,
        networks: TrainingNetworks,
        data: BatchSource,
        held_out: dict[str, BatchSource],
        settings: TrainingSettings,
        metadata: Metadata,
        dist_info: DistInfo,
    ):
        self.step = step
        self.networks = networks
        self.data = data
        self.held_out = held_out
        self.settings = settings
        self.metadata = metadata
        self.dist_info = dist_info
        self.state = TrainState(settings.start_epoch)
        make_folder(settings.result_path, RESULT_OPTION)
        self.folder = CheckpointFolder(settings.result_path, file_prefix, settings.keep)
        if self.folder.paths() and not settings.resume:
            raise UserError(
                f"{RESULT_OPTION}: {settings.result_path} holds the checkpoints of a training; continue it with "
                "--resume, or name another folder"
            )
        self._meter = MetricMeter()
        self._saved_step = 0

    def resume(self) -> bool:
        """With `--resume`, load the newest checkpoint; False if there is none.

        Raises:
            UserError: it cannot be read, or belongs to another kind of training.
        """
        checkpoint = self.folder.newest(RESULT_OPTION) if self.settings.resume else None
        if checkpoint is None:
            if self.settings.resume:
                logger.info(f"no checkpoint in {self.settings.result_path} yet: the training starts from the beginning")
            return False
        check_metadata(checkpoint, self.metadata, RESULT_OPTION)
        try:
            self._take_over(checkpoint)
        except _DAMAGES as error:  # nothing in a file is sure to be of the right kind
            raise UserError(
                f"{RESULT_OPTION}: {checkpoint.path} is damaged, a training cannot go on from it ({error}); remove it, "
                "and --resume takes the one before"
            ) from error
        if self.state.step_in_epoch > self.data.steps_per_epoch:
            raise UserError(
                f"{RESULT_OPTION}: {checkpoint.path} was written at step {self.state.step_in_epoch} of an epoch, "
                f"which has only {self.data.steps_per_epoch} now; use the same data, --batch_size and --augment_num"
            )
        self._saved_step = self.state.step
        logger.info(f"resuming from {checkpoint.path}: epoch {self.state.epoch}, step {self.state.step}")
        return True

    def _take_over(self, checkpoint: Checkpoint) -> None:
        """Take over networks, optimizers, position and random state; raises _DAMAGES where they are none."""
        self.networks.resume(checkpoint, RESULT_OPTION)
        epoch = checkpoint.epoch or self.settings.start_epoch
        earlier = {"epoch": epoch, "step": (epoch - 1) * self.data.steps_per_epoch}  # of a published checkpoint
        state = TrainState(**(earlier | checkpoint.extra.get("position", {})))
        for name, value in asdict(state).items():
            if type(value) is not int or not 0 <= value < _MAX_STEP:
                raise ValueError(f"{name} is {value!r:.40}")
        self.state = state
        if "random_state" in checkpoint.extra:
            torch.set_rng_state(checkpoint.extra["random_state"])
        if "device_random_state" in checkpoint.extra and self.networks.device.type == "cuda":
            torch.cuda.set_rng_state(checkpoint.extra["device_random_state"], self.networks.device)

    def run(self, options: dict[str, Any] | None = None) -> None:
        """Train; `options` are recorded in the log.

        Raises:
            UserError: a loss that is not finite, data that cannot be read, a checkpoint that cannot be written.
            SystemExit: after SIGTERM or Ctrl-C, with status 143 or 130, once the checkpoint is written.
        """
        settings, state = self.settings, self.state
        last_epoch = settings.non_decay + settings.decay
        if self.dist_info.is_main:
            self.folder.remove_partial()
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(contextlib.closing(self._open_log()))
            stop = stack.enter_context(stop_signals())
            log.write("start", state.step, asdict(state) | {"options": options or {}})
            logger.info(self._start_line())
            # Also closed on errors: loader processes ignore SIGTERM, and the interpreter would wait for them at exit.
            batches = stack.enter_context(contextlib.closing(self.data.stream(state.epoch, state.step_in_epoch)))
            if self._report_missing(log):
                self._report(state.epoch - 1, log)
            finished = self._finished(last_epoch)
            while not finished:
                epoch = state.epoch
                stopped = self._train_epoch(batches, log, stop)
                if state.step_in_epoch == self.data.steps_per_epoch:
                    state.epoch, state.step_in_epoch = epoch + 1, 0
                if not stopped:
                    if epoch % settings.checkpoint == 0 or self._step_checkpoint_due():
                        self._save(log)
                    self._report(epoch, log)
                    self._meter.skip_time()
                finished = stopped or self._finished(last_epoch)
            self._save(log)
        logger.info(f"training ends before epoch {state.epoch}, after step {state.step}")
        if stop.received:
            raise SystemExit(stop.status)

    def _start_line(self) -> str:
        device = self.networks.device
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
        shared = f" in {self.dist_info.world_size} processes" if self.dist_info.world_size > 1 else ""
        limit = "" if self.settings.max_steps is None else f", at most {self.settings.max_steps} steps"
        return (
            f"training on {where}{shared}: {self.data.epoch_samples} samples per epoch, "
            f"{self.data.steps_per_epoch} steps of {self.data.batch_size}, epoch {self.state.epoch} to "
            f"{self.settings.non_decay + self.settings.decay}{limit}; results in {self.settings.result_path}"
        )

    def _finished(self, last_epoch: int) -> bool:
        limit = self.settings.max_steps
        return self.state.epoch > last_epoch or (limit is not None and self.state.step >= limit)

    def _train_epoch(self, batches: Iterator[dict[str, torch.Tensor]], log: TrainingLog, stop: StopSignals) -> bool:
        """Train to the end of the epoch; True if the training ends here."""
        settings, state, steps = self.settings, self.state, self.data.steps_per_epoch
        rates = self.networks.set_learning_rates(learning_rate_factor(state.epoch, settings.non_decay, settings.decay))
        quiet = None if self.dist_info.is_main else True  # None: shown on a terminal only
        bar = tqdm(desc=f"epoch {state.epoch}", total=steps, initial=state.step_in_epoch, unit="step", disable=quiet)
        with bar:
            while state.step_in_epoch < steps:
                start = time.perf_counter()
                batch = next(batches)
                data_wait = time.perf_counter() - start
                losses, stop_now = self._average_over_processes(self.step(**batch), stop.received)
                state.step += 1
                state.step_in_epoch += 1
                self._check(losses)
                self.networks.update_ema()
                self._meter.update(losses, data_wait)
                bar.update()
                at_end = state.step_in_epoch == steps
                stop_now = stop_now or (not at_end and state.step == settings.max_steps)
                if self._meter.steps == settings.log_steps or at_end or stop_now:
                    metrics = self._log_step(rates, log)
                    bar.set_postfix(metrics, refresh=False)
                    if bar.disable:
                        texts = ", ".join(f"{name} {value}" for name, value in metrics.items())
                        logger.info(f"epoch {state.epoch}, step {state.step_in_epoch} of {steps}: {texts}")
                if stop_now:
                    return True
                if not at_end and self._step_checkpoint_due():
                    self._save(log)
        return False

    def _step_checkpoint_due(self) -> bool:
        every = self.settings.checkpoint_steps
        return every is not None and self.state.step % every == 0

    def _average_over_processes(self, losses: dict[str, torch.Tensor], stop_now: bool) -> tuple[dict[str, float], bool]:
        """Means of the losses over all processes, and whether any was asked to stop; the same in each."""
        values = torch.stack([loss.float() for loss in losses.values()])
        both = torch.cat([values, values.new_tensor([stop_now])])
        *means, stops = (self.dist_info.all_reduce_sum(both) / self.dist_info.world_size).tolist()
        return dict(zip(losses, means, strict=True)), stops > 0

    def _check(self, losses: dict[str, float]) -> None:
        state = self.state
        problem = next((f"loss {name} is {value}" for name, value in losses.items() if not math.isfinite(value)), None)
        for name, update in self.networks.optimizer_steps.items():
            if problem is None and update.skipped_steps > MAX_SKIPPED_STEPS:
                problem = f"gradient of {name} was not finite {update.skipped_steps} times in a row"
        if problem is not None:
            paths = self.folder.paths()
            good = f"{paths[-1]} is the last good checkpoint" if paths else "there is no checkpoint yet"
            raise UserError(
                f"training stopped in epoch {state.epoch}, step {state.step}: {problem}; {good}; "
                "continue with --resume and a lower learning rate, --clip_grad 1 or --amp off"
            )

    def _log_step(self, rates: dict[str, float], log: TrainingLog) -> dict[str, str]:
        """Log the steps since the last line of the log; returns the metrics to show."""
        means = self._meter.compute_and_reset(self.data.batch_size)
        values: dict[str, Any] = {"epoch": self.state.epoch, "samples": self.state.step * self.data.batch_size}
        values |= means
        values |= {f"lr_{name}": rate for name, rate in rates.items()}
        steps = self.networks.optimizer_steps
        norms = {f"gradient_norm_{name}": step.gradient_norm for name, step in steps.items()}
        values |= {name: norm for name, norm in norms.items() if math.isfinite(norm)}  # JSON has no NaN
        values["memory_mib"] = peak_memory(self.networks.device)
        log.write("train", self.state.step, values)
        return {name: f"{value:.3g}" for name, value in means.items()}

    def _report_missing(self, log: TrainingLog) -> bool:
        """Whether an earlier process ended between the checkpoint of an epoch and the report on it; the same in all."""
        missing = False
        if self.state.step_in_epoch == 0 and "checkpoint" in log.last_kinds:
            images = self._image_path(self.state.epoch - 1, "train")
            missing = "validation" not in log.last_kinds if self.held_out else not images.exists()
        flag = torch.tensor(float(missing), device=self.networks.device)
        return self.dist_info.all_reduce_sum(flag).item() > 0

    def _report(self, epoch: int, log: TrainingLog) -> None:
        """Write grids of sample images and evaluate held-out samples."""
        if self.dist_info.is_main:
            for name, source in ({"train": self.data} | self.held_out).items():
                self._write_images(epoch, name, source, log)
        for name, source in self.held_out.items():
            means = self._evaluate(source)
            log.write("validation", self.state.step, {"epoch": epoch, "data": name} | means)
            logger.info(f"epoch {epoch}, {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in means.items()))
        self.dist_info.barrier()

    def _evaluate(self, source: BatchSource) -> dict[str, float]:
        totals: dict[str, torch.Tensor] = {}
        count = torch.zeros((), device=self.networks.device)
        for batch in source.validation(max(self.settings.val_samples, self.dist_info.world_size)):
            size = len(next(iter(batch.values())))
            count += size
            for name, value in self.step.evaluate(**batch).items():
                totals[name] = totals.get(name, 0) + value.float() * size
        sums = self.dist_info.all_reduce_sum(torch.stack([*totals.values(), count]))
        return self.step.summarise(dict(zip(totals, (sums[:-1] / sums[-1]).tolist(), strict=True)))

    def _write_images(self, epoch: int, name: str, source: BatchSource, log: TrainingLog) -> None:
        batch = next(source.validation(GRID_SAMPLES * self.dist_info.world_size))
        rows = self.step.images(**{key: value[:GRID_SAMPLES] for key, value in batch.items()})
        if rows is None:
            return
        grid = image_grid(rows)
        path = self._image_path(epoch, name)
        path.parent.mkdir(exist_ok=True)
        with atomic_path(path) as partial:
            write_png(partial, grid)
        log.image(f"pictures/{name}", self.state.step, grid)

    def _image_path(self, epoch: int, name: str) -> Path:
        return self.settings.result_path / "pictures" / f"epoch_{epoch:04d}_{name}.png"

    def _save(self, log: TrainingLog) -> None:
        """Write a checkpoint of the current state, unless that has been written already."""
        state = self.state
        if self._saved_step == state.step:
            return
        self._saved_step = state.step
        if self.dist_info.is_main:
            within = state.step_in_epoch > 0
            path = self.folder.path(state.epoch if within else state.epoch - 1, state.step if within else None)
            earlier = self.folder.paths()
            extra = {"position": asdict(state), "random_state": torch.get_rng_state()}
            if self.networks.device.type == "cuda":
                extra["device_random_state"] = torch.cuda.get_rng_state(self.networks.device)
            try:
                write_checkpoint(
                    path,
                    self.networks.checkpoint_networks(),
                    self.networks.checkpoint_optimizers(),
                    state.epoch,
                    self.metadata,
                    extra | self.networks.checkpoint_extra(),
                )
            except UserError as error:
                good = (
                    f"{earlier[-1]} is intact, continue from it with --resume" if earlier else "there is no earlier one"
                )
                raise UserError(f"{error}; {good}") from error
            logger.info(f"checkpoint: {path}")
            self.folder.remove_old()
            log.write("checkpoint", state.step, {"path": str(path)})
        self.dist_info.barrier()

    def _open_log(self) -> TrainingLog:
        settings, enabled = self.settings, self.dist_info.is_main
        return TrainingLog(settings.result_path, self.state.step, settings.tensorboard, enabled=enabled)
