"""The audio encoder's training on lip landmarks, for train_audio_encoder.py."""

import argparse
from functools import partial

import torch

from config.parser import pick
from dataset.lips import LIP_VALUES, LipSamples
from dataset.loading import LoadingSettings, open_training_data
from models.lip_reader import AUDIO_ENCODER, LipReader, lip_opening
from models.lip_step import LipStep
from utils.distributed import Processes
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
    step = LipStep(networks, AUDIO_ENCODER, "audio", {"opening": lip_opening})
    settings = pick(TrainingSettings, options)
    loop = TrainingLoop("audio", step, networks, data.train, data.held_out, settings, metadata, processes)
    loop.resume()
    loop.run(vars(options))
