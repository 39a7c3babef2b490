"""Bounds on the size of media files: a few bytes can claim to be a week of video.

A script sets them once (`use_limits`). They are kept in an environment variable, so that worker processes, which read
most files, have them too.
"""

import argparse
import math
import os
from dataclasses import asdict, dataclass, fields

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
        67_108_864,
        type=positive_int,
        help="largest image or frame that is read, width times height in pixels (8192 squared)",
    )
    min_sample_rate: int = option(1_000, type=positive_int, help="lowest sampling rate of audio that is read, in Hz")
    max_sample_rate: int = option(768_000, type=positive_int, help="highest sampling rate of audio that is read, in Hz")


_VARIABLE = "DINET_MEDIA_LIMITS"


def use_limits(limits: MediaLimits) -> None:
    """Set the bounds of this process and of those that it starts from now on."""
    os.environ[_VARIABLE] = " ".join(str(value) for value in asdict(limits).values())


def limits_of(options: argparse.Namespace) -> MediaLimits:
    """Return the bounds that a script's options state."""
    return MediaLimits(**{field.name: getattr(options, field.name) for field in fields(MediaLimits)})


def current_limits() -> MediaLimits:
    """Return the bounds that were set by `use_limits`, else the defaults."""
    values = os.environ.get(_VARIABLE, "").split()
    if len(values) != len(fields(MediaLimits)):
        return MediaLimits()
    return MediaLimits(float(values[0]), *(int(value) for value in values[1:]))
