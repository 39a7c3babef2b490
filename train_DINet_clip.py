"""Train DINet on clips of five frames: python train_DINet_clip.py --mouth_region_size 256 --batch_size 3."""

import argparse
from functools import partial
from typing import TYPE_CHECKING

from config.parser import make_settings
from config.training import ClipTrainingParser
from utils.errors import UserError, run_script

if TYPE_CHECKING:
    import torch

    from utils.distributed import DistInfo


def main() -> None:
    """Run the script."""
    options = ClipTrainingParser().parse_args()
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
    from dataset.samples import ClipSamples
    from dataset.settings import LoadingSettings
    from models.losses import CLIP_FRAMES
    from utils.checkpoints import read_checkpoint
    from utils.face.crop_geometry import mouth_region
    from utils.training import pretrained, settings
    from utils.training.build import make_training_networks
    from utils.training.dinet_step import ClipStep
    from utils.training.networks import check_sizes
    from utils.training.trainer import Trainer
    from utils.training.vgg_weights import load_perceptual_network

    # Everything that a mistake in the options can break comes before the data is read.
    loading = make_settings(LoadingSettings, options)
    weights = make_settings(settings.LossWeights, options)
    dinet = make_settings(settings.DINetSettings, options)
    stage = make_settings(settings.ClipStageSettings, options)
    lips = make_settings(settings.LipSupervisionSettings, options).resolve()
    frame = syncnet = perceptual = None
    if weights.lamb_syncnet_perception:
        syncnet = pretrained.read_syncnet_checkpoint(stage.pretrained_syncnet_path)
    if stage.pretrained_frame_DINet_path is not None:
        frame = read_checkpoint(stage.pretrained_frame_DINet_path, settings.FRAME_OPTION)
    sizes = pretrained.with_feature_channel(make_settings(settings.NetworkSettings, options), frame)
    check_sizes(sizes, loading.mouth_region_size, loading.batch_size * CLIP_FRAMES, weights.lamb_gan > 0)
    if weights.lamb_perception:
        perceptual = load_perceptual_network(dinet.perceptual_weights, dist_info)

    # Data
    samples = partial(
        ClipSamples, may_repeat_source=dinet.reference_may_repeat_source, still_references=dinet.still_references
    )
    data = open_training_data(samples, loading, dist_info, device)
    frozen = frame if sizes.freeze_audio_encoder else None
    metadata = pretrained.make_metadata(loading.mouth_region_size, data.kind, sizes.feature_channel, frozen)

    # Networks and losses: a call of the step is one step of the training
    optimisation = make_settings(settings.OptimisationSettings, options, weight_decay=0.0)
    networks = make_training_networks(sizes, dinet, optimisation, metadata, loading.seed, dist_info, device, clip=True)
    step = ClipStep(
        networks,
        mouth_region(loading.mouth_region_size),
        weights,
        perceptual,
        None if syncnet is None else pretrained.load_syncnet(syncnet, sizes.source_channel, metadata),
        pretrained.load_lip_supervision(lips, metadata),
    )

    # The loop: epochs, learning-rate schedule (optimizer.learning_rate_factor), checkpoints, reports
    run = make_settings(settings.TrainingSettings, options)
    trainer = Trainer("netG", step, networks, data.train, data.held_out, run, metadata, dist_info)
    if not trainer.resume():
        option = settings.FRAME_OPTION
        if frame is None:
            raise UserError(f"{option}: is needed to start the clip stage; name weights of train_DINet_frame.py")
        pretrained.start_from(networks, ["net_g", "net_dI", "net_dV"], frame, option, metadata)
    trainer.run(vars(options))


def command() -> None:
    """Run the installed command (pyproject.toml)."""
    run_script(main)


if __name__ == "__main__":
    command()
