"""What to train on and how it is loaded. Without PyTorch: the scripts build their options from it."""

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

from utils.settings import fraction, non_negative, non_negative_int, option, positive_int, process_count
from utils.training.settings import PUBLISHED, SMALL_DATA, SPEED

logger = logging.getLogger(__name__)


def _mouth_size(text: str) -> int:
    value = positive_int(text)
    if value % 32:
        raise argparse.ArgumentTypeError(
            f"{text} must be a multiple of 32, because the networks halve the crop five times"
        )
    return value


def _augment(text: str) -> str:
    if text == "look":
        logger.warning("--augment look is now called --augment color; the old name works in this version only")
        return "color"
    return text


@dataclass(frozen=True)
class LoadingSettings:
    """Training data, held-out data, and how batches are loaded."""

    train_data: Path = option(
        type=Path, group=PUBLISHED, help="training json, made with data_processing.py --generate_training_json"
    )
    augment_num: int = option(
        32, type=positive_int, group=PUBLISHED, help="samples per video and epoch: how often an epoch takes each video"
    )
    batch_size: int = option(
        24, type=positive_int, group=PUBLISHED, help="samples per step, over all processes together"
    )
    mouth_region_size: int = option(
        64, type=_mouth_size, group=PUBLISHED, help="side of the mouth region in pixels, a multiple of 32"
    )
    audio_channel: int | None = option(
        None, type=positive_int, group=PUBLISHED, help="channels of the speech features; None: those of the data"
    )
    seed: int = option(
        456, type=non_negative_int, group=PUBLISHED, help="seed of the initial weights and of the order of the data"
    )
    val_data: Path | None = option(
        None, type=Path, help="training json of held-out videos; their losses are reported after every epoch"
    )
    hold_out: float = option(
        0.0,
        type=fraction,
        help="fraction of every video's clips, its last ones, that is not trained on; their losses are reported after "
        "every epoch",
    )
    length_power: float = option(
        0.0,
        type=non_negative,
        group=SMALL_DATA,
        help="draw a video of n clips with a probability proportional to n to this power: 0.5 draws long videos more "
        "often than short ones; 0: all equally often, as published",
    )
    cache: str = option(
        "none",
        choices=("none", "ram", "device"),
        group=SPEED,
        help="keep all decoded crops in memory: ram, or device (the GPU's); for sets that fit",
    )
    num_workers: int | None = option(
        None,
        type=process_count,
        group=SPEED,
        help="processes that load samples; None: 1 on the CPU, up to 8 on CUDA, 0 with --cache",
    )
    augment: str = option(
        "none",
        type=_augment,
        choices=("none", "color", "all"),
        nargs="?",
        const="all",
        group=SMALL_DATA,
        help="augmentation of the images; color: horizontal flips, contrast, saturation and brightness; all (also the "
        "option without a value): small shifts and zooms as well, which blur small crops",
    )
    augment_audio: bool = option(
        False, group=SMALL_DATA, help="augment the speech features with noise, gain, tilt and masking, as SpecAugment"
    )
