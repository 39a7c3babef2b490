"""Comparisons of a video with a true one: which frames belong together, and the scores."""

import contextlib
import logging
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.face.crop_geometry import mouth_region
from utils.media.container import as_fraction
from utils.media.video_reader import VideoReader
from utils.media.video_track import Track

logger = logging.getLogger(__name__)

MOUTH_REGION_SIZE = 256
"""Images are compared as crops of this mouth region, 416 x 320 pixels, so that figures of all video sizes compare."""
SELF, CROSS = "self", "cross"
"""Tasks of clips that are dubbed here: with their own audio, and with other audio."""
TRUTH, DUBBED = "truth", "dubbed"
"""Rows of every evaluation: the true video itself, and the dub. Baselines add others."""
REGIONS = ("crop", "mouth")
REGION_SLICES = {"crop": (slice(None), slice(None)), "mouth": mouth_region(MOUTH_REGION_SIZE)}
"""Rows and columns of each region in the face crop."""

MAX_EXTRA_SECONDS, MAX_EXTRA_FRACTION = 0.5, 0.05
"""Videos whose lengths differ by more than both are refused as different videos."""
MAX_ASPECT_DIFFERENCE = 0.02
"""Largest relative difference of aspect ratios; sizes are rounded to even numbers."""


@dataclass(frozen=True)
class Comparison:
    """One video to score: one row of one clip.

    Attributes:
        clip: name of the clip.
        task: how the row came about: "given", "self" or "cross".
        row: what it is: "truth", "dubbed" or the name of a baseline.
        generated: the video to score.
        reference: the true video.
        audio: file with the speech that the lips should follow; None if there is none.
        same_audio: False for cross-audio dubs: image metrics are skipped.
        driving_video: the video that the audio of a cross-audio dub came from, if it is one.
        audio_option: command-line option that the audio came from, for error messages.
    """

    clip: str
    task: str
    row: str
    generated: Path
    reference: Path
    audio: Path | None
    same_audio: bool = True
    driving_video: Path | None = None
    audio_option: str = "--generated"

    @property
    def name(self) -> str:
        """The row in words, for progress bars and messages."""
        return f"{self.clip}, {self.task}: {self.row}"


@dataclass(frozen=True)
class Scores:
    """Figures of one comparison by column, NaN where undefined, and what the report's images are made of.

    Attributes:
        comparison: what was scored.
        frames: frames that both videos have.
        values: figures by column.
        strip: face crops (true, scored), uint8 [416, 320, 3] each.
        openings: lip openings over time by whose lips they are, at `opening_rate`: those of the scored video, and
            those they should follow where these are known.
        opening_rate: frames per second of `openings`.
        curves: scores over the shift of the audio, by the name of the measure.
    """

    comparison: Comparison
    frames: int
    values: dict[str, float]
    strip: list[tuple[np.ndarray, np.ndarray]] = field(repr=False)
    openings: dict[str, np.ndarray] = field(repr=False)
    opening_rate: Fraction
    curves: dict[str, np.ndarray] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Alignment:
    """Which frames of two videos belong together.

    `reference` and `generated` are frame numbers, int [N] each, at `rate` frames per second; `scale` (x, y) is the
    size of the generated video relative to the true one.
    """

    reference: np.ndarray
    generated: np.ndarray
    rate: Fraction
    scale: tuple[float, float]


def align(true: VideoReader, other: VideoReader, comparison: Comparison) -> Alignment:
    """Match the frames of two videos by time, at the lower of their rates, over the length that both have.

    Raises:
        UserError: lengths or aspect ratios that two versions of one video would not have.
    """
    rate = min(true.info.rate, other.info.rate)
    first, second = true.timeline(rate), other.timeline(rate)
    common, longer = sorted((len(first), len(second)))
    check_match(true, other, comparison.task, (len(first) / float(rate), len(second) / float(rate)))
    if longer > common:
        logger.info(f"{other.info.path.name}: the last {longer - common} frames of the longer video are not compared")
    if true.info.rate != other.info.rate:
        logger.info(
            f"{other.info.path.name}: {float(other.info.rate):g} frames per second against {float(true.info.rate):g}: "
            f"matched by time at {float(rate):g}"
        )
    scale = other.info.width / true.info.width, other.info.height / true.info.height
    return Alignment(first[:common], second[:common], rate, scale)


def check_match(true: VideoReader, other: VideoReader, task: str, seconds: tuple[float, float] | None) -> None:
    """Check that two videos can be versions of one.

    Args:
        true: the true video.
        other: the scored video.
        task: of the comparison; a cross-audio dub may have another length, that of its audio.
        seconds: lengths of `true` and `other`; None: only the aspect ratios are checked.

    Raises:
        UserError: they differ.
    """
    aspects = [r.info.width / r.info.height * float(r.info.sample_aspect_ratio) for r in (true, other)]
    if abs(aspects[1] / aspects[0] - 1) > MAX_ASPECT_DIFFERENCE:
        raise UserError(
            f"{other.info.path} is {other.info.width}x{other.info.height} and {true.info.path} {true.info.width}x"
            f"{true.info.height}: the shapes differ, so pixels do not match; give videos of the same picture"
        )
    if seconds is None or task == CROSS:
        return
    shorter, longer = sorted(seconds)
    if longer - shorter > max(MAX_EXTRA_SECONDS, MAX_EXTRA_FRACTION * longer):
        raise UserError(
            f"{other.info.path} lasts {seconds[1]:.2f} s and {true.info.path} {seconds[0]:.2f} s: too different to be "
            "compared frame by frame; cut them to the same part"
        )


def packet_seconds(reader: VideoReader) -> float | None:
    """Length of a video by the time stamps of its packets, without decoding; None if they have none.

    Good enough to refuse videos of different lengths before anything slow starts; `align` checks by the frames.
    """
    with contextlib.closing(Track(reader.info.path)) as track:
        base = as_fraction(track.stream.time_base)
        times = [packet.pts for packet in track.container.demux(track.stream) if packet.pts is not None]
    if not times or base is None:
        return None
    return float((max(times) - min(times)) * base + 1 / reader.info.rate)


def region_of(crop: np.ndarray, region: str) -> np.ndarray:
    """The face crop [416, 320, 3] itself ("crop") or its mouth square [256, 256, 3] ("mouth")."""
    return crop[REGION_SLICES[region]]
