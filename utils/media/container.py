"""Open media files with any supported PyAV version."""

from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av

_OPTIONS = {"options": {"protocol_whitelist": "file"}}
"""A playlist cannot reach out to the network."""
if int(av.__version__.split(".")[0]) < 19:
    _OPTIONS["metadata_errors"] = "replace"  # PyAV 19 has no such argument: it never fails on metadata


class Rational(Protocol):
    """A rational number of any kind: `fractions.Fraction` (PyAV 18) or `av.rational.AVRational` (PyAV 19)."""

    numerator: int
    denominator: int


def open_input(path: Path) -> av.container.InputContainer:
    """Open a media file for reading. Tags that are not UTF-8 do not matter.

    Raises:
        av.FFmpegError, OSError: the file cannot be read or is no media file.
    """
    # An absolute path, as ffmpeg would take "a:b.mp4" for a protocol.
    return av.open(str(path.absolute()), **_OPTIONS)


def as_fraction(value: Rational | None) -> Fraction | None:
    """Return a rational number of PyAV as a Fraction; None for None and for 0/0, which ffmpeg calls unknown."""
    if value is None or not value.denominator:
        return None
    return Fraction(value.numerator, value.denominator)
