"""Parts of a video that several processes decode at the same time, bit for bit as in one pass over the file.

A part begins at a key frame. Where the packets of a file do not tell which frames it has, there are no parts. What is
decoded is compared with what the packets say, and neighbouring parts with each other where they overlap.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np

from utils.media.limits import current_limits
from utils.media.video_reader import Frame, VideoReader
from utils.media.video_track import Track, fingerprint, shown_at_ticks

PART_FRAMES = 150
"""Least number of frames of a part."""


class PartError(Exception):
    """A part does not have the frames that the packets of the file promise: it is to be read in one piece."""


@dataclass(frozen=True)
class VideoParts:
    """The frames of a video, and where its parts begin.

    Attributes:
        reader: the video.
        pts: time stamps of its frames, int64 [N], rising.
        time_base: seconds of one unit of them.
        starts: first frame of each part, rising; all but the first are key frames.
    """

    reader: VideoReader
    pts: np.ndarray
    time_base: Fraction
    starts: list[int]

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """(first frame, first frame after it) of each part."""
        return list(zip(self.starts, [*self.starts[1:], len(self.pts)], strict=True))

    @property
    def times(self) -> np.ndarray:
        """Time of every frame, float64 [N], seconds from the first."""
        seconds = np.array([float(stamp * self.time_base) for stamp in self.pts.tolist()])
        return seconds - seconds[0]

    def timeline(self, rate: Fraction) -> np.ndarray:
        """Return which frame is shown at each tick of a constant rate; see VideoReader.timeline."""
        return shown_at_ticks(self.times, self.reader.info.rate, rate)


@dataclass
class Seam:
    """Checksums of the frames in which a part overlaps its neighbours, by frame."""

    prints: dict[int, int] = field(default_factory=dict)

    def check(self, following: "Seam") -> None:
        """Compare with those of the part that follows.

        Raises:
            PartError: a frame is not the same in both, or none is in both.
        """
        shared = self.prints.keys() & following.prints.keys()
        if not shared or any(self.prints[frame] != following.prints[frame] for frame in shared):
            raise PartError


def find_parts(reader: VideoReader, part_frames: int = PART_FRAMES) -> VideoParts | None:
    """Find the parts of a video by its packets, without decoding; None where they do not tell, or for one part."""
    if reader.info.is_still:
        return None
    stamps: list[tuple[int, bool]] = []
    limits = current_limits()
    try:
        with closing(Track(reader.info.path, limits.max_pixels)) as track:
            time_base = Fraction(track.stream.time_base.numerator, track.stream.time_base.denominator)
            for packet in track.container.demux(track.stream):
                if not packet.size or packet.is_discard:
                    continue
                if packet.pts is None or packet.is_corrupt:
                    return None
                stamps.append((packet.pts, packet.is_keyframe))
    except av.FFmpegError:
        return None
    stamps.sort()
    pts = np.array([stamp for stamp, _ in stamps], np.int64)
    too_long = len(pts) and float((pts[-1] - pts[0]) * time_base) > limits.max_seconds
    if too_long or len(pts) < 2 * part_frames or (np.diff(pts) <= 0).any():
        return None
    starts = [0]
    for frame, (_, is_key) in enumerate(stamps):
        if is_key and frame - starts[-1] >= part_frames and len(pts) - frame >= part_frames:
            starts.append(frame)
    return VideoParts(reader, pts, time_base, starts) if len(starts) > 1 else None


def read_frames(parts: VideoParts, first: int, end: int, seam: Seam, overlap: int = 1) -> Iterator[Frame]:
    """Decode frames `first` .. `end` - 1.

    Args:
        parts: the video.
        first: a start of a part.
        end: one past the last frame.
        seam: receives the checksums of the first and of the last `overlap` frames.
        overlap: frames that the part shares with the one before and, at its end, with the one after it.

    Raises:
        PartError: the frames are not those that the packets of the file promise.
    """
    reader, pts, times = parts.reader, parts.pts[first:end].tolist(), parts.times[first:end]
    position = 0
    try:
        with closing(Track(reader.info.path)) as track:
            if first:
                track.container.seek(pts[0], stream=track.stream)
            for picture in track.frames():
                if position == 0 and picture.pts is not None and picture.pts < pts[0]:
                    continue  # of an earlier key frame, or shown before this one but stored after it
                if picture.pts != pts[position] or track.damaged:
                    raise PartError
                index = first + position
                if position < overlap or position >= len(pts) - overlap:
                    seam.prints[index] = fingerprint(picture)
                yield Frame(reader.to_i420(picture), index, float(times[position]))
                position += 1
                if position == len(pts):
                    return
    except av.FFmpegError as error:
        raise PartError from error
    raise PartError


def check_seams(seams: Sequence[Seam]) -> None:
    """Compare each part with the next.

    Raises:
        PartError: they differ where they overlap.
    """
    for one, following in itertools.pairwise(seams):
        one.check(following)
