"""Train DINet's audio encoder on lip landmarks (small data): python train_audio_encoder.py --augment_audio."""

import argparse
from typing import TYPE_CHECKING

from config.parser import make_settings
from config.training import AudioEncoderTrainingParser
from utils.errors import run_script

if TYPE_CHECKING:
    import torch

    from utils.distributed import DistInfo


def main() -> None:
    """Run the script."""
    options = AudioEncoderTrainingParser().parse_args()
    # PyTorch takes seconds to load: not for --help or a mistyped option.
    from utils.distributed import init_distributed

    with init_distributed(options.device) as (dist_info, device):
        train(options, dist_info, device)


def train(options: argparse.Namespace, dist_info: "DistInfo", device: "torch.device") -> None:
    """Train as the options say.

    Raises:
        UserError: data or options that do not fit.
    """
    import torch

    from dataset.lip_samples import LipSamples
    from dataset.loading import open_training_data
    from dataset.settings import LoadingSettings
    from models.audio_to_lips import AudioToLipShape
    from utils.checkpoints import AUDIO_ENCODER
    from utils.face.landmarks import LIP_SHAPE_VALUES, opening_and_width
    from utils.training import pretrained, settings
    from utils.training.lip_step import LipStep
    from utils.training.networks import TrainingNetworks
    from utils.training.trainer import Trainer

    stage = make_settings(settings.LipRegressionSettings, options)

    # Data; these samples have no images, hence no options for images
    def samples(videos, seed, augment_audio=False, length_power=0.0, **_images) -> LipSamples:
        return LipSamples(videos, seed, stage.openface_landmark_dir, augment_audio, length_power)

    loading = make_settings(LoadingSettings, options, augment="none", cache="none", mouth_region_size=64)
    data = open_training_data(samples, loading, dist_info, device)

    # Network and loss: a call of the step is one step of the training
    torch.manual_seed(loading.seed)
    networks = TrainingNetworks(
        {AUDIO_ENCODER: AudioToLipShape(data.kind.channels, LIP_SHAPE_VALUES, stage.dropout)},
        {AUDIO_ENCODER: stage.lr},
        make_settings(settings.OptimisationSettings, options, ema=0.0),
        dist_info,
        device,
    )
    step = LipStep(networks, AUDIO_ENCODER, "audio", {"opening": lambda shapes: opening_and_width(shapes)[0]})

    # The loop: epochs, learning-rate schedule (optimizer.learning_rate_factor), checkpoints, reports
    run = make_settings(settings.TrainingSettings, options)
    metadata = pretrained.make_metadata(None, data.kind)
    trainer = Trainer("audio_encoder", step, networks, data.train, data.held_out, run, metadata, dist_info)
    trainer.resume()
    trainer.run(vars(options))


def command() -> None:
    """Run the installed command (pyproject.toml)."""
    run_script(main)


if __name__ == "__main__":
    command()
