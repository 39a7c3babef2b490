"""SyncNet's training, for train_syncnet.py."""

import argparse
from functools import partial

import torch

from config.parser import pick
from dataset.lip_samples import LipSyncSamples
from dataset.loading import Batches, LoadingSettings, open_training_data
from dataset.samples import SyncSamples
from models.syncnet import lsuv_init_
from utils.checkpoints import SYNCNET
from utils.distributed import DistInfo
from utils.training.dinet_step import SyncPairs, SyncStep
from utils.training.networks import OptimisationSettings, TrainingNetworks
from utils.training.trainer import Trainer, TrainingSettings, coarse_checkpoint, make_metadata

FITTED_SAMPLES = 32
"""Samples that the first weights are fitted to."""


def first_pictures(batches: Batches) -> tuple[torch.Tensor, torch.Tensor]:
    """Mouths and their speech to fit first weights to, on the CPU."""
    some = [(batch["mouths"].cpu(), batch["audio"].cpu()) for batch in batches.validation(FITTED_SAMPLES)]
    mouths, audio = zip(*some, strict=True)
    return torch.cat(mouths), torch.cat(audio)


def train(options: argparse.Namespace, dist_info: DistInfo, device: torch.device) -> None:
    """Train as the options say.

    Raises:
        UserError: data, weights or options that do not fit.
    """
    coarse = coarse_checkpoint(options.coarse2fine, options.coarse_model_path)
    # Judged on shifted speech of the same video alone: the speech of another one is easier to tell apart.
    samples = SyncSamples
    if options.openface_landmark_dir:
        samples = partial(LipSyncSamples, landmark_dirs=options.openface_landmark_dir)
    judged = partial(samples, other_video_share=0, negatives=1)
    samples = partial(samples, negatives=options.negatives)
    data = open_training_data(samples, pick(LoadingSettings, options), dist_info, device, judged)

    torch.manual_seed(options.seed)
    pairs = SyncPairs(in_channel_audio=data.kind.channels)
    lsuv_init_(pairs, *first_pictures(data.train))
    networks = TrainingNetworks(
        {SYNCNET: pairs},
        {SYNCNET: options.lr},
        pick(OptimisationSettings, options),
        dist_info,
        device,
    )
    metadata = make_metadata(options.mouth_region_size, data.kind)
    settings = pick(TrainingSettings, options)
    step = SyncStep(networks, options.lamb_lips, options.lamb_contrast)
    loop = Trainer("sync", step, networks, data.train, data.held_out, settings, metadata, dist_info)
    if not loop.resume() and coarse is not None:
        loop.start_from(coarse, [SYNCNET], "--coarse_model_path", any_size=True)
    loop.run(vars(options))
