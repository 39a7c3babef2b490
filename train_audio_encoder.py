"""Train the generator's audio encoder on lip landmarks, so that little data is enough for the rest (not published)."""

import argparse
from functools import partial

import torch

from config.parser import pick
from config.training import AudioEncoderTrainingParser
from dataset.lips import LIP_VALUES, LipSamples
from dataset.loading import LoadingSettings, open_training_data
from models.lip_reader import AUDIO_ENCODER, LipReader, LipStep
from utils.distributed import Processes, training_processes
from utils.errors import run_script
from utils.trained_networks import OptimisationSettings, TrainedNetworks
from utils.training import TrainingLoop, TrainingSettings, describe_networks


def train(options: argparse.Namespace, processes: Processes, device: torch.device) -> None:
    """Train as the options say.

    Raises:
        UserError: data or options that do not fit.
    """
    samples = partial(LipSamples, landmark_dirs=options.openface_landmark_dir)
    data = open_training_data(samples, pick(LoadingSettings, options), processes, device)
    torch.manual_seed(options.seed)
    networks = TrainedNetworks(
        {AUDIO_ENCODER: LipReader(data.kind.channels, LIP_VALUES, options.dropout)},
        {AUDIO_ENCODER: options.lr},
        pick(OptimisationSettings, options),
        processes,
        device,
    )
    metadata = describe_networks(None, data.kind)
    settings = pick(TrainingSettings, options)
    loop = TrainingLoop("audio", LipStep(networks), networks, data.train, data.held_out, settings, metadata, processes)
    loop.resume()
    loop.run(vars(options))


def main() -> None:
    """Run the script."""
    options = AudioEncoderTrainingParser().parse_args()
    with training_processes(options.device) as (processes, device):
        train(options, processes, device)


if __name__ == "__main__":
    run_script(main)
