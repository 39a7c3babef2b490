"""Batches for training: in a reproducible order that can be resumed anywhere, loaded ahead, moved to the device."""

import atexit
import itertools
import logging
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from dataset.crops import CropFiles, CropMemory, Crops
from dataset.manifest import Video, read_manifest
from dataset.samples import SampleKey, Samples, split_videos
from dataset.settings import LoadingSettings
from utils.distributed import DistInfo
from utils.errors import UserError
from utils.executors import usable_cores
from utils.face.crop_geometry import network_size
from utils.pipeline import in_background
from utils.speech.features import FeatureKind

logger = logging.getLogger(__name__)

VALIDATION_EPOCH = 0
"""Epoch number of validation samples; training epochs are counted from 1."""
_PREFETCH = 4
"""Batches that each loader process prepares in advance."""


class ResumableBatchSampler:
    """Endless sample keys of one process's part of each batch, beginning at (epoch, step).

    Each epoch is a permutation of its samples, given by seed and epoch; an incomplete last batch is left out.
    """

    def __init__(self, samples: int, batch_size: int, seed: int, dist_info: DistInfo, epoch: int, step: int):
        self.samples = samples
        self.batch_size = batch_size
        self.seed = seed
        self.dist_info = dist_info
        self.epoch = epoch
        self.step = step

    def __iter__(self) -> Iterator[list[SampleKey]]:
        own = self.batch_size // self.dist_info.world_size
        steps = self.samples // self.batch_size
        for epoch in itertools.count(self.epoch):
            order = np.random.default_rng((self.seed, epoch)).permutation(self.samples)
            for step in range(self.step if epoch == self.epoch else 0, steps):
                first = step * self.batch_size + self.dist_info.rank * own
                yield [SampleKey(epoch, int(index)) for index in order[first : first + own]]


class Batches:
    """Batches of samples, this process's part of them, on the device.

    Args:
        samples: kind of samples, see Samples and LipSamples.
        repeats: how often an epoch takes each video (`--augment_num`).
        batch_size: samples per step, over all processes together.
        seed: of the run.
        dist_info: of the distributed training.
        device: where the batches go.
        workers: loader processes; 0: a thread of this one.

    Raises:
        UserError: a batch that the samples cannot fill or the processes cannot share.
    """

    def __init__(
        self,
        samples: Samples,
        repeats: int,
        batch_size: int,
        seed: int,
        dist_info: DistInfo,
        device: torch.device,
        workers: int = 0,
    ):
        self.samples = samples
        self.epoch_samples = len(samples.videos) * repeats
        if batch_size > self.epoch_samples:
            raise UserError(
                f"--batch_size: {batch_size} is more than the {self.epoch_samples} samples of an epoch "
                f"({len(samples.videos)} videos, --augment_num {repeats}); lower it or raise --augment_num"
            )
        if batch_size % dist_info.world_size:
            raise UserError(
                f"--batch_size: {batch_size} cannot be shared equally by {dist_info.world_size} processes; "
                f"use a multiple of {dist_info.world_size}"
            )
        self.batch_size = batch_size
        self.seed = seed
        self.dist_info = dist_info
        self.device = device
        self.workers = workers

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch; at least 1."""
        return self.epoch_samples // self.batch_size

    def stream(self, epoch: int, step: int) -> Iterator[dict[str, torch.Tensor]]:
        """Endless batches, beginning at step `step` (from 0) of an epoch.

        Raises:
            UserError: too many crops cannot be read.
        """
        order = ResumableBatchSampler(self.epoch_samples, self.batch_size, self.seed, self.dist_info, epoch, step)
        loader = DataLoader(
            self.samples,
            batch_size=None,  # the sampler yields whole batches
            sampler=order,
            num_workers=self.workers,
            prefetch_factor=_PREFETCH if self.workers else None,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # not the global one, whose state is resumed
            # A spawned worker takes seconds to start; a forked one shares the memory of its parent.
            multiprocessing_context=_start_method() if self.workers else None,
        )
        return self._prepared(loader if self.workers else in_background(loader, _PREFETCH))

    def validation(self, count: int) -> Iterator[dict[str, torch.Tensor]]:
        """This process's part of `count` samples, the same ones in the same batches each time."""
        share = range(self.dist_info.rank, count, self.dist_info.world_size)
        size = max(1, self.batch_size // self.dist_info.world_size)
        batches = (
            self.samples[[SampleKey(VALIDATION_EPOCH, index) for index in share[first : first + size]]]
            for first in range(0, len(share), size)
        )
        return self._prepared(in_background(batches, 1))

    def _prepared(self, loaded) -> Iterator[dict[str, torch.Tensor]]:
        for batch in loaded:
            if isinstance(batch, UserError):
                raise batch
            yield self.samples.prepare(batch, self.device)


@dataclass(frozen=True)
class TrainingData:
    """Batches to train on, held-out batches by name, and the kind of speech features of all."""

    train: Batches
    held_out: dict[str, Batches]
    kind: FeatureKind


def open_training_data(
    make_samples: Callable[..., Samples],
    settings: LoadingSettings,
    dist_info: DistInfo,
    device: torch.device,
    make_held_out: Callable[..., Samples] | None = None,
) -> TrainingData:
    """Open the training json and the held-out data.

    Args:
        make_samples: kind of samples; takes the arguments of `Samples`, videos by position, the others by name.
        settings: see LoadingSettings.
        dist_info: of the distributed training.
        device: where the batches go.
        make_held_out: kind of the held-out samples, if it is another one.

    Raises:
        UserError: a json, crops or speech features that are missing or unfit.
    """
    size, seed = settings.mouth_region_size, settings.seed
    videos = read_manifest(settings.train_data, "--train_data")
    kind = videos[0].kind
    if settings.audio_channel not in (None, kind.channels):
        raise UserError(
            f"--audio_channel: {settings.train_data} holds {kind.name} features of {kind.channels} channels, "
            f"not {settings.audio_channel}; leave the option out"
        )
    _check_prepared(videos, "--train_data")
    videos, held = split_videos(videos, settings.hold_out)
    workers = settings.num_workers
    if workers is None:
        workers = _default_workers(device, settings.cache != "none", dist_info)
    train = Batches(
        make_samples(
            videos,
            crops=_open_crops(settings.cache, videos, size, device),
            mouth_region_size=size,
            seed=seed,
            augment=settings.augment,
            augment_audio=settings.augment_audio,
            length_power=settings.length_power,
        ),
        settings.augment_num,
        settings.batch_size,
        seed,
        dist_info,
        device,
        workers,
    )
    reports = {"held_out": (held, "--hold_out")} if held else {}
    if settings.val_data is not None:
        reports["val"] = (_read_val_data(settings.val_data, kind), "--val_data")
    held_out = {
        name: Batches(
            (make_held_out or make_samples)(
                some, crops=CropFiles(network_size(size)), mouth_region_size=size, seed=seed, option=option
            ),
            settings.batch_size,  # one video fills a batch: nothing is trained on it
            settings.batch_size,
            seed,
            dist_info,
            device,
        )
        for name, (some, option) in reports.items()
    }
    return TrainingData(train, held_out, kind)


def _read_val_data(path: Path, kind: FeatureKind) -> list[Video]:
    """The videos of `--val_data`, with the same kind of speech features as the training data.

    Raises:
        UserError: missing or unfit.
    """
    videos = read_manifest(path, "--val_data")
    if videos[0].kind != kind:
        raise UserError(
            f"--val_data: {path} holds {videos[0].kind.name} features and --train_data {kind.name}; "
            "prepare both the same way"
        )
    _check_prepared(videos, "--val_data")
    return videos


def _default_workers(device: torch.device, cached: bool, dist_info: DistInfo) -> int:
    """Loader processes if `--num_workers` is not given; cached crops need none."""
    if cached:
        return 0
    return min(8, max(1, usable_cores() // dist_info.world_size - 1)) if device.type == "cuda" else 1


def _check_prepared(videos: list[Video], option: str) -> None:
    """Check that each video's speech features and first crop exist: a folder may have been moved or removed.

    Raises:
        UserError: naming a file.
    """
    for video in videos:
        if video.clips:
            video.clip_features(video.clips[-1])
    firsts = [video.clips[0].frame_paths[0] for video in videos if video.clips]
    missing = [path for path in firsts if not Path(path).is_file()]
    if missing:
        raise UserError(
            f"{option}: crops of {len(missing)} of {len(firsts)} videos are missing, such as {missing[0]} (paths count "
            "from the folder this is run in); run data_processing.py --crop_face and --generate_training_json again"
        )


def _open_crops(cache: str, videos: list[Video], mouth_region_size: int, device: torch.device) -> Crops:
    """The crops of some videos at the network's size; `cache` is none, ram or device."""
    size = network_size(mouth_region_size)
    if cache == "none":
        return CropFiles(size)
    paths = list(dict.fromkeys(path for video in videos for clip in video.clips for path in clip.frame_paths))
    return CropMemory(paths, size, device if cache == "device" else torch.device("cpu"))


def _end_workers() -> None:
    """Kill loader processes at exit: they ignore SIGTERM, so that the interpreter would wait for them."""
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


atexit.register(_end_workers)  # runs before multiprocessing's own, which was registered earlier


def _start_method() -> str:
    return "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"


def _start_worker(_: int) -> None:
    # Ctrl-C and a scheduler's SIGTERM may reach all processes: the parent finishes its step and then kills its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(0)
