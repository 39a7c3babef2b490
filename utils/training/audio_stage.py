"""The audio encoder's training on lip landmarks, for train_audio_encoder.py."""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from config.parser import pick
from dataset.lip_samples import LipSamples
from dataset.loading import LoadingSettings, open_training_data
from models.audio_to_lips import AudioToLipShape
from utils.checkpoints import AUDIO_ENCODER, Metadata, load_network, read_checkpoint
from utils.distributed import DistInfo
from utils.face.landmarks import LIP_SHAPE_VALUES, opening_and_width
from utils.training.lip_step import LipStep
from utils.training.networks import OptimisationSettings, TrainingNetworks
from utils.training.trainer import Trainer, TrainingSettings, check_metadata, make_metadata

TEACHER_OPTION = "--lip_teacher_path"


def train(options: argparse.Namespace, dist_info: DistInfo, device: torch.device) -> None:
    """Train as the options say.

    Raises:
        UserError: data or options that do not fit.
    """
    samples = partial(LipSamples, landmark_dirs=options.openface_landmark_dir)
    data = open_training_data(samples, pick(LoadingSettings, options), dist_info, device)
    torch.manual_seed(options.seed)
    networks = TrainingNetworks(
        {AUDIO_ENCODER: AudioToLipShape(data.kind.channels, LIP_SHAPE_VALUES, options.dropout)},
        {AUDIO_ENCODER: options.lr},
        pick(OptimisationSettings, options),
        dist_info,
        device,
    )
    metadata = make_metadata(None, data.kind)
    step = LipStep(networks, AUDIO_ENCODER, "audio", {"opening": lambda shapes: opening_and_width(shapes)[0]})
    settings = pick(TrainingSettings, options)
    loop = Trainer("audio", step, networks, data.train, data.held_out, settings, metadata, dist_info)
    loop.resume()
    loop.run(vars(options))


def load_lip_teacher(path: Path | None, metadata: Metadata) -> AudioToLipShape | None:
    """The network of a checkpoint that tells the lips from the speech; None for None.

    Raises:
        UserError: a file that holds none, or one for other speech features than those of `metadata`.
    """
    if path is None:
        return None
    checkpoint = read_checkpoint(path, TEACHER_OPTION, "train one with train_audio_encoder.py")
    check_metadata(checkpoint, replace(metadata, mouth_region_size=None, feature_channel=None), TEACHER_OPTION)
    teacher = AudioToLipShape(metadata.audio_channel, LIP_SHAPE_VALUES)
    load_network(teacher, checkpoint, AUDIO_ENCODER, TEACHER_OPTION)
    return teacher
