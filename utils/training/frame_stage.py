"""The frame stage of the training, for train_DINet_frame.py."""

import argparse
from functools import partial

import torch

from config.parser import pick
from dataset.loading import LoadingSettings, open_training_data
from dataset.samples import FrameSamples
from utils.training.build import NetworkSettings, make_dinet_networks
from models.perceptual import PerceptualNetwork
from utils.checkpoints import AUDIO_ENCODER, load_part, read_checkpoint
from utils.distributed import DistInfo
from utils.errors import UserError
from utils.face.crop_geometry import mouth_region
from utils.training.audio_stage import load_lip_teacher
from utils.training.mouth_reader_stage import load_mouth_reader
from utils.training.networks import OptimisationSettings, TrainingNetworks, check_sizes
from utils.training.steps import FrameStep, LipSupervision, LossWeights
from utils.training.trainer import (
    Trainer,
    TrainingSettings,
    check_metadata,
    choose_feature_channel,
    coarse_checkpoint,
    make_metadata,
)
from utils.training.vgg_weights import load_perceptual_network

AUDIO_OPTION = "--pretrained_audio_path"


def train(options: argparse.Namespace, dist_info: DistInfo, device: torch.device) -> None:
    """Train as the options say.

    Raises:
        UserError: data, weights or options that do not fit.
    """
    coarse = coarse_checkpoint(options.coarse2fine, options.coarse_model_path)
    check_sizes(pick(NetworkSettings, options), options.mouth_region_size, options.batch_size, options.lamb_gan > 0)
    options.feature_channel = choose_feature_channel(options.feature_channel, coarse)
    perceptual = None
    if options.lamb_perception:
        perceptual = load_perceptual_network(PerceptualNetwork, options.perceptual_weights, dist_info)
    reader = load_mouth_reader(options.pretrained_mouth_reader_path)
    samples = partial(
        FrameSamples,
        may_repeat_source=options.reference_may_repeat_source,
        frames_per_sample=options.frames_per_sample,
    )
    data = open_training_data(samples, pick(LoadingSettings, options), dist_info, device)
    metadata = make_metadata(options.mouth_region_size, data.kind, options.feature_channel)
    teacher = load_lip_teacher(options.lip_teacher_path, metadata)

    torch.manual_seed(options.seed)
    networks = TrainingNetworks(
        make_dinet_networks(pick(NetworkSettings, options), data.kind.channels),
        {"net_g": options.lr_g, "net_dI": options.lr_dI},
        pick(OptimisationSettings, options),
        dist_info,
        device,
    )
    mouth = mouth_region(options.mouth_region_size)
    step = FrameStep(
        networks,
        None if perceptual is None else networks.to_device(perceptual),
        mouth,
        pick(LossWeights, options),
        None if reader is None else networks.to_device(reader),
        None if teacher is None else networks.to_device(teacher),
        pick(LipSupervision, options),
    )
    settings = pick(TrainingSettings, options)
    loop = Trainer("frame", step, networks, data.train, data.held_out, settings, metadata, dist_info)
    if not loop.resume():
        if options.freeze_norms and coarse is None:
            raise UserError("--freeze_norms: needs weights to start from; add --coarse2fine and --coarse_model_path")
        if coarse is not None:
            loop.start_from(coarse, ["net_g", "net_dI"], "--coarse_model_path", any_size=True)
        if options.pretrained_audio_path is not None:
            speech = read_checkpoint(options.pretrained_audio_path, AUDIO_OPTION)
            check_metadata(speech, metadata, AUDIO_OPTION)
            load_part(networks.modules["net_g"].audio_encoder, speech, AUDIO_ENCODER, "audio_encoder", AUDIO_OPTION)
    loop.run(vars(options))
