"""Bounds on what a media file may ask for: a few bytes can claim to be a week of video."""

import argparse
import math
from dataclasses import dataclass

from utils.settings import option, positive_int


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0")
    return value


@dataclass(frozen=True)
class MediaLimits:
    """Files beyond these bounds are refused before their content is decoded or memory is reserved for it."""

    max_seconds: float = option(
        14_400.0, type=_seconds, help="longest video or audio that is read and longest result, in seconds (4 hours)"
    )
    max_pixels: int = option(
        67_108_864, type=positive_int, help="largest picture that is read, width times height in pixels (8192 x 8192)"
    )
    min_sample_rate: int = option(1_000, type=positive_int, help="lowest sampling rate of audio that is read, in Hz")
    max_sample_rate: int = option(768_000, type=positive_int, help="highest sampling rate of audio that is read, in Hz")


DEFAULT_LIMITS = MediaLimits()
