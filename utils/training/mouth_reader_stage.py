"""The mouth reader: its training, for train_mouth_reader.py, and its loading, for the DINet stages."""

import argparse
from functools import partial
from pathlib import Path

import torch

from config.parser import pick
from dataset.lip_samples import MouthSamples
from dataset.loading import LoadingSettings, open_training_data
from models.lip_regressor import LipShapeRegressor, degrade
from utils.checkpoints import LIP_REGRESSOR, load_network, read_checkpoint
from utils.distributed import DistInfo
from utils.training.lip_step import LipStep
from utils.training.networks import OptimisationSettings, TrainingNetworks
from utils.training.trainer import Trainer, TrainingSettings, make_metadata

READER_OPTION = "--pretrained_mouth_reader_path"


def train(options: argparse.Namespace, dist_info: DistInfo, device: torch.device) -> None:
    """Train as the options say.

    Raises:
        UserError: data or options that do not fit.
    """
    samples = partial(MouthSamples, landmark_dirs=options.openface_landmark_dir)
    data = open_training_data(samples, pick(LoadingSettings, options), dist_info, device)
    torch.manual_seed(options.seed)
    networks = TrainingNetworks(
        {LIP_REGRESSOR: LipShapeRegressor(options.dropout)},
        {LIP_REGRESSOR: options.lr},
        pick(OptimisationSettings, options),
        dist_info,
        device,
    )
    measures = {"opening": lambda lips: lips[:, 0], "width": lambda lips: lips[:, 1]}
    step = LipStep(networks, LIP_REGRESSOR, "mouths", measures, degrade)
    settings = pick(TrainingSettings, options)
    metadata = make_metadata(options.mouth_region_size, data.kind)
    loop = Trainer("mouth", step, networks, data.train, data.held_out, settings, metadata, dist_info)
    loop.resume()
    loop.run(vars(options))


def load_mouth_reader(path: Path | None) -> LipShapeRegressor | None:
    """The reader of a checkpoint, whichever mouth region and speech features it was trained with; None for None.

    Raises:
        UserError: a file that is none.
    """
    if path is None:
        return None
    reader = LipShapeRegressor()
    checkpoint = read_checkpoint(path, READER_OPTION, "train one with train_mouth_reader.py")
    load_network(reader, checkpoint, LIP_REGRESSOR, READER_OPTION)
    return reader
