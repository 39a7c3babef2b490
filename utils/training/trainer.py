"""The training loop under every training script: epochs, checkpoints, resuming, reports."""

import contextlib
import logging
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from tqdm import tqdm

from models.dinet import FEATURE_CHANNELS
from utils.checkpoints import (
    EMA_SUFFIX,
    Checkpoint,
    Metadata,
    load_network,
    read_checkpoint,
    write_checkpoint,
)
from utils.distributed import DistInfo
from utils.errors import UserError, make_folder
from utils.files import atomic_path
from utils.media.images import image_grid, write_png
from utils.speech.features import FeatureKind
from utils.training.checkpoint_folder import CheckpointFolder
from utils.training.log import MetricMeter, TrainingLog, peak_memory
from utils.training.networks import TrainingNetworks
from utils.training.optimizer import MAX_SKIPPED_STEPS, learning_rate_factor

logger = logging.getLogger(__name__)

RESULT_OPTION = "--result_path"
PICTURE_SAMPLES = 4
"""Samples shown in a grid."""
FILE_PREFIXES = {"frame": "netG", "clip": "netG", "sync": "syncnet", "audio": "audio_encoder", "mouth": "mouth_reader"}
"""Names of checkpoint files by stage."""


@dataclass(frozen=True)
class TrainingSettings:
    """Course of a training; the names are those of the options."""

    result_path: Path
    resume: bool = False
    start_epoch: int = 1
    non_decay: int = 200
    decay: int = 200
    max_steps: int | None = None
    checkpoint: int = 2
    checkpoint_steps: int | None = None
    keep: int = 0
    log_steps: int = 10
    tensorboard: bool = False
    val_samples: int = 64


class Step(Protocol):
    """A stage's training step, on batches whose entries are its keyword arguments."""

    def __call__(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Train on a batch; gives losses by name, scalars without gradient."""

    def evaluate(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Means over a held-out batch by name, scalars; changes nothing."""

    def summarise(self, means: dict[str, float]) -> dict[str, float]:
        """The figures to report from what `evaluate` gave, averaged over all held-out samples."""

    def pictures(self, **batch: torch.Tensor) -> torch.Tensor | None:
        """Rows of pictures to look at, [N, K, 3, H, W] in [0, 1], or None."""


class BatchSource(Protocol):
    """Where batches come from; see dataset.loading.Batches."""

    batch_size: int
    epoch_samples: int

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""

    def stream(self, epoch: int, step: int) -> Iterator[dict[str, torch.Tensor]]:
        """Batches from a step of an epoch on, without end."""

    def validation(self, count: int) -> Iterator[dict[str, torch.Tensor]]:
        """This process's share of `count` samples that are always the same."""


@dataclass
class TrainState:
    """Where a training stands: in `epoch`, after `step_in_epoch` steps of it and `step` of all."""

    epoch: int
    step_in_epoch: int = 0
    step: int = 0


class Trainer:
    """Trains until the last epoch, the last step, or a signal.

    Args:
        stage: frame, clip, sync, audio or mouth.
        step: the stage's step.
        networks: what it trains.
        data: to train on.
        held_out: by name, what to report on after each epoch.
        settings: see TrainingSettings.
        metadata: what the networks are for; stands in every checkpoint, and must agree with one that is resumed.
        dist_info: those that train together.

    Raises:
        UserError: the result folder cannot be written, or holds another training and this one is not to resume.
    """

    def __init__(
        self,
        stage: str,
        step: Step,
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
        self.position = TrainState(settings.start_epoch)
        make_folder(settings.result_path, RESULT_OPTION)
        self.folder = CheckpointFolder(settings.result_path, FILE_PREFIXES[stage], settings.keep)
        if self.folder.paths() and not settings.resume:
            raise UserError(
                f"{RESULT_OPTION}: {settings.result_path} holds the checkpoints of a training; go on with it by "
                "--resume, or name another folder"
            )
        self._meter = MetricMeter()
        self._saved_step = 0

    def resume(self) -> bool:
        """With `--resume`, take over the newest checkpoint; False where there is none.

        Raises:
            UserError: it cannot be read, or belongs to another kind of training.
        """
        checkpoint = self.folder.newest(RESULT_OPTION) if self.settings.resume else None
        if checkpoint is None:
            if self.settings.resume:
                logger.info(f"no checkpoint in {self.settings.result_path} yet: the training starts anew")
            return False
        check_metadata(checkpoint, self.metadata, RESULT_OPTION)
        self.networks.resume(checkpoint, RESULT_OPTION)
        epoch = checkpoint.epoch or self.settings.start_epoch
        earlier = {"epoch": epoch, "step": (epoch - 1) * self.data.steps_per_epoch}  # of a published checkpoint
        self.position = TrainState(**(earlier | checkpoint.extra.get("position", {})))
        if self.position.step_in_epoch > self.data.steps_per_epoch:
            raise UserError(
                f"{RESULT_OPTION}: {checkpoint.path} was written at step {self.position.step_in_epoch} of an epoch, "
                f"which has only {self.data.steps_per_epoch} now; use the same data, --batch_size and --augment_num"
            )
        if "random_state" in checkpoint.extra:
            torch.set_rng_state(checkpoint.extra["random_state"])
        if "device_random_state" in checkpoint.extra and self.networks.device.type == "cuda":
            torch.cuda.set_rng_state(checkpoint.extra["device_random_state"], self.networks.device)
        self._saved_step = self.position.step
        logger.info(f"resuming from {checkpoint.path}: epoch {self.position.epoch}, step {self.position.step}")
        return True

    def start_from(self, checkpoint: Checkpoint, names: list[str], option: str, any_size: bool = False) -> None:
        """Start with the first of the networks `names` of a checkpoint, and with the others where it has them.

        Of a network whose average it holds, the average is taken.

        Args:
            checkpoint: whose weights to take.
            names: of networks.
            option: what named the checkpoint.
            any_size: it may be made for another mouth region.

        Raises:
            UserError: a checkpoint that does not fit.
        """
        check_metadata(checkpoint, self.metadata, option, any_size)
        for name in names:
            if name == names[0] or name in checkpoint.networks:
                average = f"{name}{EMA_SUFFIX}"
                stored = average if average in checkpoint.networks else name
                load_network(self.networks.modules[name], checkpoint, stored, option)

    def run(self, options: dict[str, Any] | None = None) -> None:
        """Train; `options` are noted in the log.

        Raises:
            UserError: a loss that is not finite, data that cannot be read, a checkpoint that cannot be written.
        """
        settings, position = self.settings, self.position
        last_epoch = settings.non_decay + settings.decay
        if self.dist_info.is_main:
            self.folder.remove_partial()
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(contextlib.closing(self._open_log()))
            stop = stack.enter_context(stop_signals())
            log.write("start", position.step, asdict(position) | {"options": options or {}})
            logger.info(self._start_line())
            # Closed also by an error: loader processes ignore SIGTERM, and the interpreter would wait for them at exit.
            batches = stack.enter_context(contextlib.closing(self.data.stream(position.epoch, position.step_in_epoch)))
            finished = self._finished(last_epoch)
            while not finished:
                epoch = position.epoch
                stopped = self._train_epoch(batches, log, stop)
                if position.step_in_epoch == self.data.steps_per_epoch:
                    position.epoch, position.step_in_epoch = epoch + 1, 0
                if not stopped:
                    if epoch % settings.checkpoint == 0 or self._step_checkpoint_due():
                        self._save(log)
                    self._report(epoch, log)
                    self._meter.skip_time()
                finished = stopped or self._finished(last_epoch)
            self._save(log)
        logger.info(f"training ends before epoch {position.epoch}, after step {position.step}")

    def _start_line(self) -> str:
        device = self.networks.device
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
        shared = f" in {self.dist_info.world_size} processes" if self.dist_info.world_size > 1 else ""
        limit = "" if self.settings.max_steps is None else f", at most {self.settings.max_steps} steps"
        return (
            f"training on {where}{shared}: {self.data.epoch_samples} samples per epoch, "
            f"{self.data.steps_per_epoch} steps of {self.data.batch_size}, epoch {self.position.epoch} to "
            f"{self.settings.non_decay + self.settings.decay}{limit}; results in {self.settings.result_path}"
        )

    def _finished(self, last_epoch: int) -> bool:
        limit = self.settings.max_steps
        return self.position.epoch > last_epoch or (limit is not None and self.position.step >= limit)

    def _train_epoch(self, batches: Iterator[dict[str, torch.Tensor]], log: TrainingLog, stop: "StopSignals") -> bool:
        """Train to the end of the epoch; True if the training is to end here."""
        settings, position, steps = self.settings, self.position, self.data.steps_per_epoch
        rates = self.networks.set_learning_rates(
            learning_rate_factor(position.epoch, settings.non_decay, settings.decay)
        )
        quiet = None if self.dist_info.is_main else True  # None: shown on a terminal only
        bar = tqdm(
            desc=f"epoch {position.epoch}", total=steps, initial=position.step_in_epoch, unit="step", disable=quiet
        )
        with bar:
            while position.step_in_epoch < steps:
                began = time.perf_counter()
                batch = next(batches)
                waited = time.perf_counter() - began
                losses, stopping = self._average_over_processes(self.step(**batch), stop.received)
                position.step += 1
                position.step_in_epoch += 1
                self._check(losses)
                self.networks.update_ema()
                self._meter.update(losses, waited)
                bar.update()
                at_end = position.step_in_epoch == steps
                stopping = stopping or (not at_end and position.step == settings.max_steps)
                if self._meter.steps == settings.log_steps or at_end or stopping:
                    figures = self._log_step(rates, log)
                    bar.set_postfix(figures, refresh=False)
                    if bar.disable:
                        texts = ", ".join(f"{name} {value}" for name, value in figures.items())
                        logger.info(f"epoch {position.epoch}, step {position.step_in_epoch} of {steps}: {texts}")
                if stopping:
                    return True
                if not at_end and self._step_checkpoint_due():
                    self._save(log)
        return False

    def _step_checkpoint_due(self) -> bool:
        every = self.settings.checkpoint_steps
        return every is not None and self.position.step % every == 0

    def _average_over_processes(self, losses: dict[str, torch.Tensor], stopping: bool) -> tuple[dict[str, float], bool]:
        """Means of the losses over all dist_info, and whether any of them is to stop: the same in each."""
        values = torch.stack([loss.float() for loss in losses.values()])
        both = torch.cat([values, values.new_tensor([stopping])])
        *means, stops = (self.dist_info.all_reduce_sum(both) / self.dist_info.world_size).tolist()
        return dict(zip(losses, means, strict=True)), stops > 0

    def _check(self, losses: dict[str, float]) -> None:
        position = self.position
        problem = next((f"loss {name} is {value}" for name, value in losses.items() if not math.isfinite(value)), None)
        for name, update in self.networks.optimizer_steps.items():
            if problem is None and update.skipped_steps > MAX_SKIPPED_STEPS:
                problem = f"gradient of {name} was not finite {update.skipped_steps} times in a row"
        if problem is not None:
            paths = self.folder.paths()
            good = f"{paths[-1]} is the last good checkpoint" if paths else "there is no checkpoint yet"
            raise UserError(
                f"training stopped in epoch {position.epoch}, step {position.step}: {problem}; {good}; "
                "go on with --resume and a lower learning rate, --clip_grad 1 or --amp off"
            )

    def _log_step(self, rates: dict[str, float], log: TrainingLog) -> dict[str, str]:
        """Log the steps since the last time; gives the figures to show."""
        means = self._meter.compute_and_reset(self.data.batch_size)
        values: dict[str, Any] = {"epoch": self.position.epoch, "samples": self.position.step * self.data.batch_size}
        values |= means
        values |= {f"lr_{name}": rate for name, rate in rates.items()}
        steps = self.networks.optimizer_steps
        norms = {f"gradient_norm_{name}": step.gradient_norm for name, step in steps.items()}
        values |= {name: norm for name, norm in norms.items() if math.isfinite(norm)}  # JSON knows no other numbers
        values["memory_mib"] = peak_memory(self.networks.device)
        log.write("train", self.position.step, values)
        return {name: f"{value:.3g}" for name, value in means.items()}

    def _report(self, epoch: int, log: TrainingLog) -> None:
        """Judge held-out samples, and write pictures to look at."""
        for name, source in self.held_out.items():
            means = self._evaluate(source)
            log.write("validation", self.position.step, {"epoch": epoch, "data": name} | means)
            logger.info(f"epoch {epoch}, {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in means.items()))
        if self.dist_info.is_main:
            for name, source in ({"train": self.data} | self.held_out).items():
                self._write_pictures(epoch, name, source, log)
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

    def _write_pictures(self, epoch: int, name: str, source: BatchSource, log: TrainingLog) -> None:
        batch = next(source.validation(PICTURE_SAMPLES * self.dist_info.world_size))
        rows = self.step.pictures(**{key: value[:PICTURE_SAMPLES] for key, value in batch.items()})
        if rows is None:
            return
        grid = image_grid(rows)
        folder = self.settings.result_path / "pictures"
        folder.mkdir(exist_ok=True)
        with atomic_path(folder / f"epoch_{epoch:04d}_{name}.png") as partial:
            write_png(partial, grid)
        log.picture(f"pictures/{name}", self.position.step, grid)

    def _save(self, log: TrainingLog) -> None:
        """Write a checkpoint of the position, unless it was the last thing done."""
        position = self.position
        if self._saved_step == position.step:
            return
        self._saved_step = position.step
        if self.dist_info.is_main:
            inside = position.step_in_epoch > 0
            path = self.folder.path(position.epoch if inside else position.epoch - 1, position.step if inside else None)
            earlier = self.folder.paths()
            extra = {"position": asdict(position), "random_state": torch.get_rng_state()}
            if self.networks.device.type == "cuda":
                extra["device_random_state"] = torch.cuda.get_rng_state(self.networks.device)
            try:
                write_checkpoint(
                    path,
                    self.networks.checkpoint_networks(),
                    self.networks.checkpoint_optimizers(),
                    position.epoch,
                    self.metadata,
                    extra | self.networks.checkpoint_extra(),
                )
            except UserError as error:
                good = f"{earlier[-1]} is intact, go on from it with --resume" if earlier else "there is none before it"
                raise UserError(f"{error}; {good}") from error
            logger.info(f"checkpoint: {path}")
            self.folder.remove_old()
            log.write("checkpoint", position.step, {"path": str(path)})
        self.dist_info.barrier()

    def _open_log(self) -> "TrainingLog | _NoLog":
        if not self.dist_info.is_main:
            return _NoLog()
        return TrainingLog(self.settings.result_path, self.position.step, self.settings.tensorboard)


class _NoLog:
    """The log of all processes but the main one."""

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Do nothing."""

    def picture(self, name: str, step: int, picture: np.ndarray) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def check_metadata(checkpoint: Checkpoint, metadata: Metadata, option: str, any_size: bool = False) -> None:
    """See that a checkpoint was made for the same kind of data; what it does not record is taken to fit.

    Args:
        checkpoint: to check.
        metadata: what is trained now.
        option: what named the checkpoint.
        any_size: another mouth region is fine.

    Raises:
        UserError: naming the difference.
    """
    for name, wanted in asdict(metadata).items():
        recorded = getattr(checkpoint.metadata, name)
        if None not in (recorded, wanted) and recorded != wanted and not (any_size and name == "mouth_region_size"):
            raise UserError(
                f"{option}: {checkpoint.path} was trained with {name} {recorded}, not {wanted}; "
                "name a checkpoint that fits, or train with other data or options"
            )


def make_metadata(mouth_region_size: int | None, kind: FeatureKind, feature_channel: int | None = None) -> Metadata:
    """What networks trained at this mouth region and on these speech features are for.

    `feature_channel` is the generator's; a SyncNet has none.
    """
    return Metadata(mouth_region_size, kind.name, kind.channels, kind.rows_per_frame, feature_channel)


def coarse_checkpoint(coarse2fine: bool, path: Path | None) -> Checkpoint | None:
    """Read the weights that `--coarse2fine --coarse_model_path` name; None where they are not asked for.

    Raises:
        UserError: one option without the other, or a file that cannot be read.
    """
    if coarse2fine and path is None:
        raise UserError("--coarse2fine: needs --coarse_model_path, weights trained at a smaller mouth region")
    if path is not None and not coarse2fine:
        raise UserError("--coarse_model_path: is used with --coarse2fine only; add that, or leave the path out")
    return None if path is None else read_checkpoint(path, "--coarse_model_path")


def choose_feature_channel(asked: int | None, start: Checkpoint | None) -> int:
    """Channels of the generator's feature maps: as asked for, else those of the weights to start from, else 256."""
    return asked or (start and start.metadata.feature_channel) or FEATURE_CHANNELS


class StopSignals:
    """Remembers that someone asked the process to end."""

    def __init__(self):
        self.received = False

    def __call__(self, number: int, _frame: object) -> None:
        """Take a signal; a second one ends the process at once."""
        self.received = True
        logger.warning(f"{signal.Signals(number).name}: the step is finished, a checkpoint written, then it ends")
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Catch SIGTERM and SIGINT (Ctrl-C) until the end of the block."""
    stop = StopSignals()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
