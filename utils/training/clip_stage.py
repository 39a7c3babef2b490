"""The clip stage of the training: five frames at a time with a sync loss, for train_DINet_clip.py."""

import argparse
from functools import partial

import torch

from config.parser import ASSERTS_DOWNLOAD, pick
from dataset.loading import LoadingSettings, open_training_data
from dataset.samples import ClipSamples
from models.losses import CLIP_FRAMES
from models.perceptual import PerceptualNetwork
from models.syncnet import SyncNet
from utils.checkpoints import SYNCNET, Checkpoint, Metadata, load_network, read_checkpoint
from utils.distributed import DistInfo
from utils.errors import UserError
from utils.face.crop_geometry import mouth_region
from utils.training.audio_stage import load_lip_teacher
from utils.training.build import NetworkSettings, make_dinet_networks
from utils.training.dinet_step import ClipStep, LipSupervision, LossWeights
from utils.training.mouth_reader_stage import load_mouth_reader
from utils.training.networks import OptimisationSettings, TrainingNetworks, check_sizes
from utils.training.trainer import (
    Trainer,
    TrainingSettings,
    check_metadata,
    choose_feature_channel,
    make_metadata,
)
from utils.training.vgg_weights import load_perceptual_network

FRAME_OPTION = "--pretrained_frame_DINet_path"
SYNCNET_OPTION = "--pretrained_syncnet_path"


def read_syncnet(options: argparse.Namespace) -> Checkpoint | None:
    """The SyncNet checkpoint, None where the sync loss has no weight.

    Raises:
        UserError: there is none that can be read.
    """
    if not options.lamb_syncnet_perception:
        return None
    hint = f"train one with train_syncnet.py, or take syncnet_256mouth.pth of asserts.zip from {ASSERTS_DOWNLOAD}"
    return read_checkpoint(options.pretrained_syncnet_path, SYNCNET_OPTION, hint)


def make_syncnet(checkpoint: Checkpoint | None, source_channel: int, metadata: Metadata) -> SyncNet | None:
    """The SyncNet of a checkpoint.

    Raises:
        UserError: it was trained for another mouth region or other speech features.
    """
    if checkpoint is None:
        return None
    check_metadata(checkpoint, metadata, SYNCNET_OPTION)
    syncnet = SyncNet(source_channel * CLIP_FRAMES, metadata.audio_channel)
    load_network(syncnet, checkpoint, SYNCNET, SYNCNET_OPTION)
    return syncnet


def train(options: argparse.Namespace, dist_info: DistInfo, device: torch.device) -> None:
    """Train as the options say.

    Raises:
        UserError: data, weights or options that do not fit.
    """
    frames = options.batch_size * CLIP_FRAMES
    check_sizes(pick(NetworkSettings, options), options.mouth_region_size, frames, options.lamb_gan > 0)
    syncnet_checkpoint = read_syncnet(options)
    frame = None
    if options.pretrained_frame_DINet_path is not None:
        frame = read_checkpoint(options.pretrained_frame_DINet_path, FRAME_OPTION)
    options.feature_channel = choose_feature_channel(options.feature_channel, frame)
    perceptual = None
    if options.lamb_perception:
        perceptual = load_perceptual_network(PerceptualNetwork, options.perceptual_weights, dist_info)
    reader = load_mouth_reader(options.pretrained_mouth_reader_path)
    samples = partial(ClipSamples, may_repeat_source=options.reference_may_repeat_source)
    data = open_training_data(samples, pick(LoadingSettings, options), dist_info, device)
    metadata = make_metadata(options.mouth_region_size, data.kind, options.feature_channel)
    syncnet = make_syncnet(syncnet_checkpoint, options.source_channel, metadata)
    teacher = load_lip_teacher(options.lip_teacher_path, metadata)

    torch.manual_seed(options.seed)
    networks = TrainingNetworks(
        make_dinet_networks(pick(NetworkSettings, options), data.kind.channels, clip=True),
        {"net_g": options.lr_g, "net_dI": options.lr_dI, "net_dV": options.lr_dI},
        pick(OptimisationSettings, options),
        dist_info,
        device,
    )
    step = ClipStep(
        networks,
        None if perceptual is None else networks.to_device(perceptual),
        mouth_region(options.mouth_region_size),
        pick(LossWeights, options),
        None if syncnet is None else networks.to_device(syncnet),
        None if reader is None else networks.to_device(reader),
        None if teacher is None else networks.to_device(teacher),
        pick(LipSupervision, options),
    )
    settings = pick(TrainingSettings, options)
    loop = Trainer("clip", step, networks, data.train, data.held_out, settings, metadata, dist_info)
    if not loop.resume():
        if frame is None:
            raise UserError(f"{FRAME_OPTION}: is needed to start the clip stage; name weights of train_DINet_frame.py")
        loop.start_from(frame, ["net_g", "net_dI", "net_dV"], FRAME_OPTION)
    loop.run(vars(options))
