"""Train DINet on single frames: python train_DINet_frame.py --mouth_region_size 64 --batch_size 24."""

import argparse
from functools import partial
from typing import TYPE_CHECKING

from config.parser import make_settings
from config.training import FrameTrainingParser
from utils.errors import UserError, run_script

if TYPE_CHECKING:
    import torch

    from utils.distributed import DistInfo


def main() -> None:
    """Run the script."""
    options = FrameTrainingParser().parse_args()
    # PyTorch takes seconds to load: not for --help or a mistyped option.
    from utils.distributed import init_distributed

    with init_distributed(options.device) as (dist_info, device):
        train(options, dist_info, device)


def train(options: argparse.Namespace, dist_info: "DistInfo", device: "torch.device") -> None:
    """Train as the options say.

    Raises:
        UserError: data, weights or options that do not fit.
    """
    from dataset.loading import open_training_data
    from dataset.samples import FrameSamples
    from dataset.settings import LoadingSettings
    from utils.face.crop_geometry import mouth_region
    from utils.training import pretrained, settings
    from utils.training.build import make_training_networks
    from utils.training.dinet_step import FrameStep
    from utils.training.networks import check_sizes
    from utils.training.trainer import Trainer
    from utils.training.vgg_weights import load_perceptual_network

    # Everything that a mistake in the options can break comes before the data is read.
    loading = make_settings(LoadingSettings, options)
    weights = make_settings(settings.LossWeights, options, lamb_syncnet_perception=0.0)
    dinet = make_settings(settings.DINetSettings, options)
    stage = make_settings(settings.FrameStageSettings, options)
    lips = make_settings(settings.LipSupervisionSettings, options).resolve()
    coarse = pretrained.read_coarse_checkpoint(make_settings(settings.CoarseSettings, options))
    sizes = pretrained.with_feature_channel(make_settings(settings.NetworkSettings, options), coarse)
    frames = loading.batch_size * stage.frames_per_sample
    check_sizes(sizes, loading.mouth_region_size, frames, weights.lamb_gan > 0)
    perceptual = None
    if weights.lamb_perception:
        perceptual = load_perceptual_network(dinet.perceptual_weights, dist_info)

    # Data
    samples = partial(
        FrameSamples,
        may_repeat_source=dinet.reference_may_repeat_source,
        still_references=dinet.still_references,
        frames_per_sample=stage.frames_per_sample,
    )
    data = open_training_data(samples, loading, dist_info, device)
    frozen = coarse if sizes.freeze_audio_encoder and stage.pretrained_audio_path is None else None
    metadata = pretrained.make_metadata(loading.mouth_region_size, data.kind, sizes.feature_channel, frozen)

    # Networks and losses: a call of the step is one step of the training
    optimisation = make_settings(settings.OptimisationSettings, options, weight_decay=0.0)
    networks = make_training_networks(sizes, dinet, optimisation, metadata, loading.seed, dist_info, device)
    step = FrameStep(
        networks,
        mouth_region(loading.mouth_region_size),
        weights,
        perceptual,
        pretrained.load_lip_supervision(lips, metadata),
    )

    # The loop: epochs, learning-rate schedule (optimizer.learning_rate_factor), checkpoints, reports
    run = make_settings(settings.TrainingSettings, options)
    trainer = Trainer("netG", step, networks, data.train, data.held_out, run, metadata, dist_info)
    if not trainer.resume():
        if sizes.freeze_norms and coarse is None:
            raise UserError("--freeze_norms: needs weights to start from; add --coarse2fine and --coarse_model_path")
        if coarse is not None:
            names, option = ["net_g", "net_dI"], settings.COARSE_OPTION
            pretrained.start_from(networks, names, coarse, option, metadata, any_size=True)
        if stage.pretrained_audio_path is not None:
            pretrained.load_audio_encoder(networks, stage.pretrained_audio_path, metadata)
    trainer.run(vars(options))


def command() -> None:
    """Run the installed command (pyproject.toml)."""
    run_script(main)


if __name__ == "__main__":
    command()
