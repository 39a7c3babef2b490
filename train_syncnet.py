"""Train SyncNet, which the clip stage's sync loss needs: python train_syncnet.py --mouth_region_size 256."""

import argparse
from functools import partial
from typing import TYPE_CHECKING

from config.parser import make_settings
from config.training import SyncNetTrainingParser
from utils.errors import run_script

if TYPE_CHECKING:
    import torch

    from utils.distributed import DistInfo

INIT_SAMPLES = 32
"""Samples that the initial weights are scaled to."""


def main() -> None:
    """Run the script."""
    options = SyncNetTrainingParser().parse_args()
    # PyTorch takes seconds to load: not for --help or a mistyped option.
    from utils.distributed import init_distributed

    with init_distributed(options.device) as (dist_info, device):
        train(options, dist_info, device)


def train(options: argparse.Namespace, dist_info: "DistInfo", device: "torch.device") -> None:
    """Train as the options say.

    Raises:
        UserError: data, weights or options that do not fit.
    """
    import torch

    from dataset.lip_samples import LipSyncSamples
    from dataset.loading import open_training_data
    from dataset.settings import LoadingSettings
    from dataset.sync_samples import SyncSamples
    from models.syncnet import SyncNet, lsuv_init_
    from utils.checkpoints import SYNCNET
    from utils.training import pretrained, settings
    from utils.training.networks import TrainingNetworks
    from utils.training.syncnet_step import SyncStep
    from utils.training.trainer import Trainer

    stage = make_settings(settings.SyncNetSettings, options)
    coarse = pretrained.read_coarse_checkpoint(make_settings(settings.CoarseSettings, options))

    # Data; with landmarks, samples know the lip motion (small data)
    kind = SyncSamples
    if stage.openface_landmark_dir:
        kind = partial(LipSyncSamples, landmark_dirs=stage.openface_landmark_dir)
    samples = partial(kind, negatives=stage.negatives)
    # Held-out negatives are shifted audio of the same video only: audio of another video is easier to tell apart.
    held_out = partial(kind, other_video_fraction=0, negatives=1)
    loading = make_settings(LoadingSettings, options)
    data = open_training_data(samples, loading, dist_info, device, held_out)

    # Network and losses: a call of the step is one step of the training
    torch.manual_seed(loading.seed)
    syncnet = SyncNet(in_channel_audio=data.kind.channels)
    first = list(data.train.validation(INIT_SAMPLES))
    lsuv_init_(syncnet, *(torch.cat([batch[name].cpu() for batch in first]) for name in ("mouths", "audio")))
    networks = TrainingNetworks(
        {SYNCNET: syncnet},
        {SYNCNET: stage.lr},
        make_settings(settings.OptimisationSettings, options, ema=0.0),
        dist_info,
        device,
    )
    step = SyncStep(networks, stage.lamb_lips, stage.lamb_contrast)

    # The loop: epochs, learning-rate schedule (optimizer.learning_rate_factor), checkpoints, reports
    metadata = pretrained.make_metadata(loading.mouth_region_size, data.kind)
    run = make_settings(settings.TrainingSettings, options)
    trainer = Trainer("syncnet", step, networks, data.train, data.held_out, run, metadata, dist_info)
    if not trainer.resume() and coarse is not None:
        pretrained.start_from(networks, [SYNCNET], coarse, settings.COARSE_OPTION, metadata, any_size=True)
    trainer.run(vars(options))


def command() -> None:
    """Run the installed command (pyproject.toml)."""
    run_script(main)


if __name__ == "__main__":
    command()
