"""Loading a dubbing engine: weights, device and speech features in, a `Dubber` out."""

import logging
from pathlib import Path

import torch

from models.dinet import FEATURE_CHANNELS, DINet
from models.inference_form import optimize_for_inference
from utils.checkpoints import Metadata, check_fits, load_network, read_checkpoint
from utils.device import choose_device, choose_dtype
from utils.dubbing.engine import Dubber
from utils.dubbing.generator import DINetMouthGenerator
from utils.dubbing.run import Speech
from utils.dubbing.settings import DubbingOptions, LoadSettings, default_weights
from utils.errors import UserError
from utils.speech.extractor import FeatureExtractor
from utils.speech.features import KINDS

logger = logging.getLogger(__name__)

PUBLISHED_MOUTH_REGION_SIZE = 256
CHECKPOINT_OPTION = "--pretrained_clip_DINet_path"


def load_dubber(settings: LoadSettings | None = None, options: DubbingOptions | None = None) -> Dubber:
    """Load weights once, to dub many videos.

    Args:
        settings: weights, device and speech features; None: the published weights if they are in ./asserts, else
            those that come with DINet, on the GPU if there is one.
        options: how to dub; `Dubber.dub` can be given others for a single video.

    Raises:
        UserError: unusable weights, device or feature model.
    """
    settings = settings or LoadSettings()
    weights = settings.pretrained_clip_DINet_path or default_weights()
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.precision, device)
    checkpoint = read_checkpoint(weights, CHECKPOINT_OPTION)
    logger.info(f"weights: {weights}")
    metadata = complete_metadata(settings, checkpoint.metadata)
    kind = KINDS[metadata.audio_feature]
    channels = settings.source_channel, settings.ref_channel, kind.channels, metadata.feature_channel
    name = checkpoint.averaged("net_g")
    with torch.device("meta"):  # sizes that do not fit the weights may not fit into memory either
        check_fits(DINet(*channels), checkpoint, name, CHECKPOINT_OPTION)
    network = DINet(*channels)
    load_network(network, checkpoint, name, CHECKPOINT_OPTION)
    network.max_audio_norm = metadata.max_audio_norm
    network = optimize_for_inference(network, device, dtype)
    generator = DINetMouthGenerator(network, metadata.mouth_region_size, device, dtype, settings.threads)
    extractor = FeatureExtractor(kind.name, settings.deepspeech_model_path, settings.whisper_model)

    def read_speech(path: Path) -> Speech:
        features, duration = extractor.extract(path, "--driving_audio_path")
        return Speech(features, duration, path)

    return Dubber(generator, read_speech, settings.landmark_dir, options)


def complete_metadata(settings: LoadSettings, recorded: Metadata) -> Metadata:
    """Complete metadata of a generator: as its weights record it, else as the settings say, else as published.

    Raises:
        UserError: settings that contradict the weights, or sizes that no network has.
    """
    mouth_region_size = resolve_setting(settings.mouth_region_size, recorded.mouth_region_size, "--mouth_region_size")
    if mouth_region_size and mouth_region_size % 32:
        raise UserError(f"--mouth_region_size: {mouth_region_size} is not a multiple of 32; give 64, 128 or 256")
    audio_channel = resolve_setting(settings.audio_channel, recorded.audio_channel, "--audio_channel")
    audio_feature = resolve_setting(settings.audio_feature, recorded.audio_feature, "--audio_feature")
    kind = KINDS[audio_feature or "deepspeech"]
    if (audio_channel or kind.channels) != kind.channels:
        raise UserError(
            f"--audio_channel: {kind.name} features have {kind.channels} channels, not {audio_channel}; "
            "leave the option out"
        )
    return Metadata(
        mouth_region_size or PUBLISHED_MOUTH_REGION_SIZE,
        kind.name,
        kind.channels,
        kind.rows_per_frame,
        recorded.feature_channel or FEATURE_CHANNELS,
        recorded.max_audio_norm,
    )


def resolve_setting(given: object, recorded: object, option: str):
    """Return the given setting, else what the weights record; None if there is neither.

    Raises:
        UserError: the two differ, naming `option`.
    """
    if given is not None and recorded is not None and given != recorded:
        raise UserError(
            f"{option}: {given} was asked for, but the weights are made for {recorded}; leave the option out"
        )
    return recorded if given is None else given
