"""Settings of the training scripts, each with its option, default and help text.

Without PyTorch: the scripts build their options from these dataclasses, and `--help` has to be instant. The options of
the training data are defined in dataset/settings.py; config/training.py says which script has which settings.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from utils.errors import UserError
from utils.settings import folder_or_off, fraction, non_negative, non_negative_int, option, positive_int

PUBLISHED = "published options (names and defaults of the original scripts)"
DATA = "held-out data"
OPTIMISATION = "optimisation"
LOSSES = "losses"
CHECKPOINTS = "checkpoints and logs"
SPEED = "speed"
SMALL_DATA = "small data (not in the paper; see docs/small_data.md)"

PERCEPTUAL_OPTION = "--perceptual_weights"
COARSE_OPTION = "--coarse_model_path"
FRAME_OPTION = "--pretrained_frame_DINet_path"
SYNCNET_OPTION = "--pretrained_syncnet_path"
AUDIO_OPTION = "--pretrained_audio_path"
REGRESSOR_OPTION = "--pretrained_mouth_reader_path"
AUDIO2LIP_OPTION = "--pretrained_audio2lip_path"


def _feature_channel(text: str) -> int:
    value = positive_int(text)
    if value % 4:
        raise argparse.ArgumentTypeError(f"{text} must be a multiple of 4, because the networks halve it twice")
    return value


@dataclass(frozen=True)
class TrainingSettings:
    """Length of a training, its checkpoints and its log."""

    result_path: Path = option(type=Path, group=PUBLISHED, help="folder of checkpoints, logs and sample images")
    start_epoch: int = option(1, type=positive_int, group=PUBLISHED, help="number of the first epoch")
    non_decay: int = option(200, type=non_negative_int, group=PUBLISHED, help="epochs at the full learning rate")
    decay: int = option(
        200,
        type=non_negative_int,
        group=PUBLISHED,
        help="epochs after those of --non_decay, over which the learning rate falls linearly to zero",
    )
    checkpoint: int = option(2, type=positive_int, group=PUBLISHED, help="epochs between checkpoints")
    resume: bool = option(False, help="continue from the newest checkpoint in --result_path")
    max_steps: int | None = option(
        None, type=positive_int, help="stop after this number of steps, those before --resume included"
    )
    checkpoint_steps: int | None = option(
        None, type=positive_int, help="steps between additional checkpoints within an epoch"
    )
    keep: int = option(0, type=non_negative_int, help="number of checkpoints to keep, the newest; 0: all")
    log_steps: int = option(10, type=positive_int, help="steps between lines of the log")
    val_samples: int = option(64, type=positive_int, help="samples per report on held-out data")
    tensorboard: bool = option(False, help="log for TensorBoard as well (needs the package tensorboard)")


@dataclass(frozen=True)
class OptimisationSettings:
    """How networks are optimised, and on what."""

    clip_grad: float = option(
        0.0,
        type=non_negative,
        group=OPTIMISATION,
        help="maximum norm of the gradient of each network; 0 disables clipping",
    )
    weight_decay: float = option(0.0, type=non_negative, group=OPTIMISATION, help="decoupled weight decay (AdamW)")
    ema: float = option(
        0.0,
        type=fraction,
        group=OPTIMISATION,
        help="decay of an exponential moving average of the generator's weights, such as 0.999; 0: none",
    )
    device: str = option(
        "auto", group=SPEED, help="auto, cpu, cuda or cuda:N; with torchrun each process takes its own GPU"
    )
    amp: str = option(
        "off", choices=("off", "bf16", "fp16"), group=SPEED, help="mixed precision; off: fp32, as published"
    )
    channels_last: bool | None = option(
        None,
        action=argparse.BooleanOptionalAction,
        group=SPEED,
        help="channels-last memory layout of images and weights; None: on CUDA only",
    )
    compile: bool = option(False, group=SPEED, help="compile the networks with torch.compile")


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes of the networks of the DINet stages, and which part of the generator is not trained."""

    source_channel: int = option(3, type=positive_int, group=PUBLISHED, help="channels of the source image")
    ref_channel: int = option(15, type=positive_int, group=PUBLISHED, help="channels of the five reference images")
    D_num_blocks: int = option(4, type=positive_int, group=PUBLISHED, help="blocks of a discriminator")
    D_block_expansion: int = option(
        64, type=positive_int, group=PUBLISHED, help="channels of a discriminator's first block"
    )
    D_max_features: int = option(
        256, type=positive_int, group=PUBLISHED, help="maximum channels of a discriminator's blocks"
    )
    feature_channel: int | None = option(
        None,
        type=_feature_channel,
        group=SMALL_DATA,
        help="channels of the generator's feature maps, a multiple of 4; fewer make it smaller and faster; None: those "
        "of the weights that the training starts from, else 256 as published",
    )
    freeze_audio_encoder: bool = option(
        False,
        group=SMALL_DATA,
        help="do not train the generator's audio encoder: on small data it would lose what it learned in its "
        "pre-training (--pretrained_audio_path)",
    )
    freeze_norms: bool = option(
        False,
        group=SMALL_DATA,
        help="normalise with the BatchNorm statistics of the weights that the training starts from, not with those of "
        "each batch: for batches of a few samples",
    )


@dataclass(frozen=True)
class LossWeights:
    """Weights of the generator's losses in the DINet stages; a loss of weight 0 is not computed."""

    lamb_perception: float = option(10.0, type=non_negative, group=PUBLISHED, help="weight of the perceptual loss")
    lamb_syncnet_perception: float = option(
        0.1, type=non_negative, group=PUBLISHED, help="weight of the sync loss; 0: no SyncNet is needed"
    )
    lamb_gan: float = option(
        1.0, type=non_negative, help="weight of the GAN loss; 0: the discriminators are not trained"
    )
    lamb_l1: float = option(
        0.0, type=non_negative, help="weight of an L1 loss on the whole face image (not in the paper)"
    )
    lamb_mouth: float = option(
        0.0, type=non_negative, help="weight of an L1 loss on the mouth region (not in the paper)"
    )
    lip_focus: float = option(
        1.0,
        type=non_negative,
        help="weight of errors on the lips in the loss of --lamb_mouth, relative to errors on skin far from them (not "
        "in the paper)",
    )
    perception_region: str = option(
        "image",
        choices=("image", "mouth"),
        help="image region of the perceptual loss: image, the whole face image as published, or mouth, the mouth "
        "region only, at less than half the cost",
    )


@dataclass(frozen=True)
class DINetSettings:
    """What the frame stage and the clip stage have in common besides networks and losses."""

    lr_g: float = option(1e-4, type=non_negative, group=PUBLISHED, help="learning rate of the generator")
    lr_dI: float = option(1e-4, type=non_negative, group=PUBLISHED, help="learning rate of the discriminators")
    perceptual_weights: Path | None = option(
        None,
        type=Path,
        group=LOSSES,
        help="VGG19 or VGG16 weights for the perceptual loss; None: torchvision's VGG19, downloaded once",
    )
    reference_may_repeat_source: bool = option(
        False,
        group=DATA,
        help="draw reference images from the source's own clip as well, as the published clip stage does",
    )
    still_references: float = option(
        0.0,
        type=fraction,
        group=SMALL_DATA,
        help="fraction of samples whose five reference images are the same frame, as they are for a still image",
    )


@dataclass(frozen=True)
class CoarseSettings:
    """Start of a stage from weights of a smaller mouth region."""

    coarse2fine: bool = option(
        False, group=PUBLISHED, help="start from weights that were trained at a smaller mouth region"
    )
    coarse_model_path: Path | None = option(
        None, type=Path, group=PUBLISHED, help="checkpoint trained at a smaller mouth region, for --coarse2fine"
    )

    def __post_init__(self):
        if self.coarse2fine and self.coarse_model_path is None:
            raise UserError(f"--coarse2fine: needs {COARSE_OPTION}, weights trained at a smaller mouth region")
        if self.coarse_model_path is not None and not self.coarse2fine:
            raise UserError(f"{COARSE_OPTION}: is used with --coarse2fine only; add that, or leave the path out")


@dataclass(frozen=True)
class FrameStageSettings:
    """What the frame stage alone has."""

    pretrained_audio_path: Path | None = option(
        None,
        type=Path,
        group=SMALL_DATA,
        help="checkpoint of train_audio_encoder.py whose audio encoder the generator starts with",
    )
    frames_per_sample: int = option(
        1,
        type=positive_int,
        group=SMALL_DATA,
        help="source frames that share one set of reference images, whose features are then computed once; a step "
        "trains on this number times --batch_size frames",
    )


@dataclass(frozen=True)
class ClipStageSettings:
    """Weights that the clip stage starts from."""

    pretrained_frame_DINet_path: Path | None = option(
        None, type=Path, group=PUBLISHED, help="checkpoint of the frame stage to start from"
    )
    pretrained_syncnet_path: Path = option(
        Path("./asserts/syncnet_256mouth.pth"),
        type=Path,
        group=PUBLISHED,
        help="SyncNet checkpoint, trained at the same mouth region",
    )


@dataclass(frozen=True)
class SyncNetSettings:
    """Training of SyncNet."""

    lr: float = option(1e-4, type=non_negative, group=OPTIMISATION, help="learning rate")
    negatives: int = option(16, type=positive_int, group=LOSSES, help="audio windows out of sync per mouth clip")
    lamb_contrast: float = option(
        1.0,
        type=non_negative,
        group=LOSSES,
        help="weight of the InfoNCE loss, which compares the audio window in sync with the --negatives; 0: least "
        "squares only",
    )
    openface_landmark_dir: list[Path] | None = option(
        None,
        type=Path,
        nargs="+",
        group=SMALL_DATA,
        help="folders of the videos' landmarks, NAME.csv; adds a loss that has both encoders predict the lip motion, "
        "without which a small set may never leave chance",
    )
    lamb_lips: float = option(
        3.0, type=non_negative, group=SMALL_DATA, help="weight of the lip motion loss of --openface_landmark_dir"
    )


@dataclass(frozen=True)
class LipRegressionSettings:
    """Training of the networks that predict the lips, from audio or from a mouth image."""

    openface_landmark_dir: list[Path] = option(
        type=Path, nargs="+", group=DATA, help="folders of the videos' landmarks, NAME.csv"
    )
    lr: float = option(1e-3, type=non_negative, group=OPTIMISATION, help="learning rate")
    dropout: float = option(0.3, type=fraction, group=OPTIMISATION, help="dropout before the last layer of the network")


DEFAULT_LIP_AMPLITUDE, DEFAULT_UNPAIRED_AUDIO = 2.0, 0.5
"""With --lip_supervision: predicted lips move less than real ones by about this factor; half of each batch unpaired."""


@dataclass(frozen=True)
class LipSupervisionSettings:
    """Lip loss of the DINet stages on small data."""

    lip_supervision: Path | None = option(
        None,
        type=folder_or_off,
        metavar="FOLDER|off",
        group=SMALL_DATA,
        help="supervise the lips of the generator with the networks of train_mouth_reader.py and "
        "train_audio_encoder.py, which are looked for in FOLDER and its subfolders mouth_reader_training and "
        "audio_encoder_training; the other lip options override single parts; None: off",
    )
    lamb_lips: float = option(
        0.3, type=non_negative, group=SMALL_DATA, help="weight of the lip loss, on lip opening and width"
    )
    pretrained_mouth_reader_path: Path | None = option(
        None,
        type=Path,
        group=SMALL_DATA,
        help="checkpoint of train_mouth_reader.py; adds a loss on lip opening and width, predicted from the generated "
        "mouth; None: that of --lip_supervision",
    )
    pretrained_audio2lip_path: Path | None = option(
        None,
        type=Path,
        group=SMALL_DATA,
        old=["lip_teacher_path"],
        help="checkpoint of train_audio_encoder.py, which predicts the lips from audio, for --lip_amplitude and "
        "--unpaired_audio; None: that of --lip_supervision",
    )
    lip_amplitude: float | None = option(
        None,
        type=non_negative,
        old=["lip_gain"],
        group=SMALL_DATA,
        help="multiply the lip motion predicted from the audio by this factor; None: "
        f"{DEFAULT_LIP_AMPLITUDE:g} with --lip_supervision, else 1",
    )
    unpaired_audio: float | None = option(
        None,
        type=fraction,
        old=["swap_speech"],
        group=SMALL_DATA,
        help="fraction of each batch (rounded down, per process) that is driven by another sample's audio: its lips "
        "have no target image, only the lip, GAN and sync losses and a comparison of textures train them; None: "
        f"{DEFAULT_UNPAIRED_AUDIO:g} with --lip_supervision, else 0",
    )

    def resolve(self) -> "LipSupervisionSettings":
        """Fill in what `lip_supervision` stands for: paths of both networks, amplitude and unpaired fraction.

        Raises:
            UserError: a folder without one of the networks, or options that need another one.
        """
        regressor, audio2lip = self.pretrained_mouth_reader_path, self.pretrained_audio2lip_path
        amplitude, unpaired = 1.0, 0.0
        if self.lip_supervision is not None:
            regressor = regressor or _find_network(self.lip_supervision, "mouth_reader")
            audio2lip = audio2lip or _find_network(self.lip_supervision, "audio_encoder")
            amplitude, unpaired = DEFAULT_LIP_AMPLITUDE, DEFAULT_UNPAIRED_AUDIO
        resolved = replace(
            self,
            pretrained_mouth_reader_path=regressor,
            pretrained_audio2lip_path=audio2lip,
            lip_amplitude=amplitude if self.lip_amplitude is None else self.lip_amplitude,
            unpaired_audio=unpaired if self.unpaired_audio is None else self.unpaired_audio,
        )
        has_loss = regressor is not None and self.lamb_lips > 0
        if resolved.needs_audio2lip and (audio2lip is None or not has_loss):
            raise UserError(
                f"--lip_amplitude and --unpaired_audio: need the lip loss and a network that predicts the lips from "
                f"audio; add --lip_supervision FOLDER, or {REGRESSOR_OPTION} and {AUDIO2LIP_OPTION}"
            )
        if audio2lip is not None and not resolved.needs_audio2lip:
            raise UserError(
                f"{AUDIO2LIP_OPTION}: has no effect without --lip_amplitude or --unpaired_audio; add one of them, or "
                "leave the path out"
            )
        return resolved

    @property
    def needs_audio2lip(self) -> bool:
        """Whether the lip targets differ from the true lips; of resolved settings."""
        return self.lip_amplitude != 1 or self.unpaired_audio > 0


def _find_network(folder: Path, prefix: str) -> Path:
    """The newest checkpoint of train_mouth_reader.py or train_audio_encoder.py, PREFIX.pth or PREFIX_model_*.pth."""
    for place in (folder, folder / f"{prefix}_training"):
        found = [*place.glob(f"{prefix}.pth"), *place.glob(f"{prefix}_model_epoch_*.pth")]
        if found:
            return max(found, key=lambda path: path.stat().st_mtime)
    raise UserError(
        f"--lip_supervision: there is no {prefix}.pth or {prefix}_model_epoch_N.pth in {folder} or its subfolder "
        f"{prefix}_training; make it with train_{prefix}.py, or give another folder, such as asserts/demo"
    )
