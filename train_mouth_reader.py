"""Train the network that predicts the lips from a mouth image (small data): python train_mouth_reader.py --augment."""

import argparse
from functools import partial
from typing import TYPE_CHECKING

from config.parser import make_settings
from config.training import MouthReaderTrainingParser
from utils.errors import run_script

if TYPE_CHECKING:
    import torch

    from utils.distributed import DistInfo


def main() -> None:
    """Run the script."""
    options = MouthReaderTrainingParser().parse_args()
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

    from dataset.lip_samples import MouthSamples
    from dataset.loading import open_training_data
    from dataset.settings import LoadingSettings
    from models.lip_regressor import LipShapeRegressor, degrade
    from utils.checkpoints import LIP_REGRESSOR
    from utils.training import pretrained, settings
    from utils.training.lip_step import LipStep
    from utils.training.networks import TrainingNetworks
    from utils.training.trainer import Trainer

    stage = make_settings(settings.LipRegressionSettings, options)

    # Data
    loading = make_settings(LoadingSettings, options, audio_channel=None, augment_audio=False)
    samples = partial(MouthSamples, landmark_dirs=stage.openface_landmark_dir)
    data = open_training_data(samples, loading, dist_info, device)

    # Network and loss: a call of the step is one step of the training
    torch.manual_seed(loading.seed)
    networks = TrainingNetworks(
        {LIP_REGRESSOR: LipShapeRegressor(stage.dropout)},
        {LIP_REGRESSOR: stage.lr},
        make_settings(settings.OptimisationSettings, options, ema=0.0),
        dist_info,
        device,
    )
    measures = {"opening": lambda lips: lips[:, 0], "width": lambda lips: lips[:, 1]}
    step = LipStep(networks, LIP_REGRESSOR, "mouths", measures, degrade)

    # The loop: epochs, learning-rate schedule (optimizer.learning_rate_factor), checkpoints, reports
    run = make_settings(settings.TrainingSettings, options)
    metadata = pretrained.make_metadata(loading.mouth_region_size, data.kind)
    trainer = Trainer("mouth_reader", step, networks, data.train, data.held_out, run, metadata, dist_info)
    trainer.resume()
    trainer.run(vars(options))


def command() -> None:
    """Run the installed command (pyproject.toml)."""
    run_script(main)


if __name__ == "__main__":
    command()
