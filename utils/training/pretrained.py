"""Trained networks that a training uses: to start from, or frozen as part of a loss."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

from torch import nn

from models.audio_to_lips import AudioToLipShape
from models.dinet import FEATURE_CHANNELS
from models.lip_regressor import LipShapeRegressor
from models.losses import CLIP_FRAMES
from models.syncnet import SyncNet
from utils.checkpoints import (
    AUDIO_ENCODER,
    LIP_REGRESSOR,
    SYNCNET,
    Checkpoint,
    Metadata,
    load_network,
    load_part,
    read_checkpoint,
)
from utils.errors import UserError
from utils.face.landmarks import LIP_SHAPE_VALUES
from utils.settings import ASSERTS_DOWNLOAD
from utils.speech.features import FeatureKind
from utils.training.lip_supervision import LipSupervision
from utils.training.networks import TrainingNetworks
from utils.training.settings import (
    AUDIO2LIP_OPTION,
    AUDIO_OPTION,
    COARSE_OPTION,
    REGRESSOR_OPTION,
    SYNCNET_OPTION,
    CoarseSettings,
    LipSupervisionSettings,
    NetworkSettings,
)

Network = TypeVar("Network", bound=nn.Module)


def make_metadata(
    mouth_region_size: int | None,
    kind: FeatureKind,
    feature_channel: int | None = None,
    frozen_encoder: Checkpoint | None = None,
) -> Metadata:
    """Metadata of the checkpoints of a training.

    Args:
        mouth_region_size: in pixels; None for a network without images.
        kind: of the speech features.
        feature_channel: of the generator; None for a training without one.
        frozen_encoder: generator whose audio encoder is not trained: its `max_audio_norm` still holds.
    """
    norm = None if frozen_encoder is None else frozen_encoder.metadata.max_audio_norm
    return Metadata(mouth_region_size, kind.name, kind.channels, kind.rows_per_frame, feature_channel, norm)


def check_metadata(checkpoint: Checkpoint, metadata: Metadata, option: str) -> None:
    """Check that a checkpoint was made for the same kind of data; what it does not record is taken to fit.

    Args:
        checkpoint: to check.
        metadata: of this training; None entries are not compared.
        option: that named the checkpoint.

    Raises:
        UserError: naming the difference.
    """
    for name, wanted in asdict(metadata).items():
        recorded = getattr(checkpoint.metadata, name)
        if None not in (recorded, wanted) and recorded != wanted:
            raise UserError(
                f"{option}: {checkpoint.path} was trained with {name} {recorded}, not {wanted}; "
                "name a checkpoint that fits, or train with other data or options"
            )


def load_pretrained(
    network: Network, name: str, checkpoint: Checkpoint | Path, option: str, metadata: Metadata, hint: str = ""
) -> Network:
    """Load the weights of a trained network, the average of its weights if the checkpoint has one, and return it.

    Args:
        network: takes the weights.
        name: of the network in the checkpoint.
        checkpoint: it, or its file.
        option: that named the checkpoint.
        metadata: see check_metadata.
        hint: what to do if there is no such file.

    Raises:
        UserError: a checkpoint that cannot be read or does not fit.
    """
    if isinstance(checkpoint, Path):
        checkpoint = read_checkpoint(checkpoint, option, hint)
    check_metadata(checkpoint, metadata, option)
    load_network(network, checkpoint, checkpoint.averaged(name), option)
    return network


def start_from(
    networks: TrainingNetworks,
    names: list[str],
    checkpoint: Checkpoint,
    option: str,
    metadata: Metadata,
    any_size: bool = False,
) -> None:
    """Start a training with the weights of a checkpoint.

    Args:
        networks: of the training.
        names: of those to load: the checkpoint must have the first, the others are loaded if it has them.
        checkpoint: whose weights to take.
        option: that named the checkpoint.
        metadata: of the training.
        any_size: the checkpoint may have another mouth region.

    Raises:
        UserError: a checkpoint that does not fit.
    """
    if any_size:
        metadata = replace(metadata, mouth_region_size=None)
    for name in names:
        if name == names[0] or name in checkpoint.networks:
            load_pretrained(networks.modules[name], name, checkpoint, option, metadata)


def load_audio_encoder(networks: TrainingNetworks, path: Path, metadata: Metadata) -> None:
    """Start the generator's audio encoder with that of a checkpoint of train_audio_encoder.py.

    Raises:
        UserError: a checkpoint that cannot be read or does not fit.
    """
    checkpoint = read_checkpoint(path, AUDIO_OPTION, "train one with train_audio_encoder.py")
    check_metadata(checkpoint, metadata, AUDIO_OPTION)
    encoder = networks.modules["net_g"].audio_encoder
    load_part(encoder, checkpoint, AUDIO_ENCODER, "audio_encoder", AUDIO_OPTION)


def with_feature_channel(settings: NetworkSettings, start: Checkpoint | None) -> NetworkSettings:
    """Fill in the generator's feature channels: those of the weights that the training starts from, else 256."""
    recorded = start.metadata.feature_channel if start is not None else None
    return replace(settings, feature_channel=settings.feature_channel or recorded or FEATURE_CHANNELS)


def read_coarse_checkpoint(settings: CoarseSettings) -> Checkpoint | None:
    """Checkpoint of `--coarse_model_path`, None without one.

    Raises:
        UserError: a file that cannot be read.
    """
    return read_checkpoint(settings.coarse_model_path, COARSE_OPTION) if settings.coarse2fine else None


def read_syncnet_checkpoint(path: Path) -> Checkpoint:
    """Checkpoint of `--pretrained_syncnet_path`.

    Raises:
        UserError: a file that cannot be read.
    """
    hint = f"train one with train_syncnet.py, or take syncnet_256mouth.pth of asserts.zip from {ASSERTS_DOWNLOAD}"
    return read_checkpoint(path, SYNCNET_OPTION, hint)


def load_syncnet(checkpoint: Checkpoint, source_channel: int, metadata: Metadata) -> SyncNet:
    """The SyncNet of a checkpoint.

    Raises:
        UserError: it was trained for another mouth region or other speech features.
    """
    syncnet = SyncNet(source_channel * CLIP_FRAMES, metadata.audio_channel)
    return load_pretrained(syncnet, SYNCNET, checkpoint, SYNCNET_OPTION, metadata)


def load_lip_supervision(settings: LipSupervisionSettings, metadata: Metadata) -> LipSupervision | None:
    """The lip loss with its two networks; None if it is off.

    Args:
        settings: resolved.
        metadata: of the training.

    Raises:
        UserError: a file that holds no such network, or one for other speech features.
    """
    if settings.pretrained_mouth_reader_path is None:
        return None
    # The regressor resizes its input and takes no audio: any mouth region and speech features fit.
    regressor = load_pretrained(
        LipShapeRegressor(),
        LIP_REGRESSOR,
        settings.pretrained_mouth_reader_path,
        REGRESSOR_OPTION,
        Metadata(),
        "train one with train_mouth_reader.py",
    )
    audio2lip = None
    if settings.needs_audio2lip:
        audio2lip = load_pretrained(
            AudioToLipShape(metadata.audio_channel, LIP_SHAPE_VALUES),
            AUDIO_ENCODER,
            settings.pretrained_audio2lip_path,
            AUDIO2LIP_OPTION,
            replace(metadata, mouth_region_size=None, feature_channel=None),
            "train one with train_audio_encoder.py",
        )
    return LipSupervision(settings, regressor, audio2lip)
