"""The video track of a file as ffmpeg decodes it: packets, time stamps, rates and the upright orientation."""

import zlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition

from utils.media.container import as_fraction, decoder_options, open_input
from utils.media.limits import current_limits
from utils.media.yuv import plane_samples

STILL_RATE = Fraction(25)
STANDARD_RATES = tuple(
    Fraction(rate) for rate in ("24000/1001", "24", "25", "30000/1001", "30", "48", "50", "60000/1001", "60")
)


def nominal_rate(average: Fraction | None, base: Fraction | None) -> Fraction:
    """Return the constant frame rate to play a video at.

    Args:
        average: frames per second over the whole file (ffmpeg's avg_frame_rate).
        base: the rate whose grid holds all time stamps (ffmpeg's r_frame_rate), a guess where the rate varies.

    The rule: a constant rate (base = average) is kept; a varying one becomes `base` if that is a standard rate within
    10 % of the average, else the nearest standard rate within 5 % of the average, else the average rounded to a whole
    number. A rate within 0.02 % of a standard one is that one (containers round 30000/1001 to 29.97 or 1/33.333 ms).
    """
    average = average or base
    if not average:
        return STILL_RATE
    nearest = min(STANDARD_RATES, key=lambda rate: abs(rate / average - 1))
    standard_base = next((rate for rate in STANDARD_RATES if base and abs(base / rate - 1) < 2e-4), None)
    if standard_base and abs(standard_base / average - 1) <= 0.1:
        return standard_base
    if base == average:
        return average
    if abs(nearest / average - 1) <= 0.05:
        return nearest
    return Fraction(max(1, round(average)))


def shown_at_ticks(times: np.ndarray, own_rate: Fraction, rate: Fraction) -> np.ndarray:
    """Return which frame of a video is shown at each tick of a constant rate; see VideoReader.timeline.

    Args:
        times: seconds from the first frame, float64 [N], rising.
        own_rate: frames per second of the video, for the duration of its last frame.
        rate: ticks per second.
    """
    ticks = np.floor(times * float(rate) + 0.5 + 1e-6)  # halves go up; the rest is for floats just below one
    duration = times[-1] + 1 / float(own_rate)
    count = max(1, int(np.floor(duration * float(rate) + 0.5 + 1e-6)))
    return np.searchsorted(ticks, np.arange(count), side="right") - 1


class NoTrackError(Exception):
    """A file without a picture that could be decoded."""


class TooLargeError(Exception):
    """Pictures of more pixels than allowed; the message is their size."""


class Track:
    """The video track of a file, held open to be decoded; counts its damaged packets.

    Pictures of more than `max_pixels` are left out as damaged.

    Raises:
        NoTrackError: there is no such track.
        TooLargeError: the file says that its pictures are larger.
    """

    def __init__(self, path: Path, max_pixels: int | None = None) -> None:
        max_pixels = max_pixels or current_limits().max_pixels
        self.damaged = 0
        self.container = open_input(path, max_pixels)
        streams = self.container.streams
        # A cover picture is no video.
        usable = [
            stream
            for stream in streams.video
            if stream.codec_context is not None and not stream.disposition & Disposition.attached_pic
        ]
        if not usable:
            self.close()
            raise NoTrackError
        best = streams.best("video")
        self.stream = best if best in usable else usable[0]
        context = self.stream.codec_context
        if context.width * context.height > max_pixels:
            self.close()
            raise TooLargeError(f"{context.width} x {context.height}")
        context.options = decoder_options(max_pixels)  # the size may change on the way
        self._max_pixels = max_pixels
        self.stream.thread_type = "AUTO"

    def frames(self) -> Iterator[av.VideoFrame]:
        """Decode on from where the file stands, leaving out what is damaged."""
        for packet in self._packets():
            try:
                frames = self.stream.decode(packet)
            except av.FFmpegError:
                self.damaged += 1
                continue
            for frame in frames:
                if frame.width * frame.height <= self._max_pixels:
                    yield frame
                else:
                    self.damaged += 1

    def rate(self) -> Fraction:
        """The constant frame rate to play the track at, see nominal_rate; the track is not to be decoded any more.

        A file that states no length, as browsers record them, states no rate either, and ffmpeg's guess from its first
        frames may be many times too high: the time stamps of all its packets tell.
        """
        average, base = as_fraction(self.stream.average_rate), as_fraction(self.stream.base_rate)
        if self.container.duration is None:
            times = [packet.pts for packet in self._packets() if packet is not None and packet.pts is not None]
            seconds = (max(times) - min(times)) * as_fraction(self.stream.time_base) if times else 0
            if seconds:
                average, base = (len(times) - 1) / seconds, None
        return nominal_rate(average, base)

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def _packets(self) -> Iterator[av.Packet | None]:
        """Read the track's packets; None at the end makes the decoder give out what it still holds."""
        last = None
        try:
            for packet in self.container.demux(self.stream):
                if packet.size:  # an empty one would end the decoding
                    if last is not None:
                        yield last
                    last = packet
        except av.FFmpegError:  # the file ends in the middle of something
            self.damaged += 1
        # A last packet cut short is not tried: PyAV stops at its error and would lose the frames still in the decoder.
        if last is not None and last.is_corrupt:
            self.damaged += 1
        elif last is not None:
            yield last
        yield None


def fingerprint(picture: av.VideoFrame) -> int:
    """A checksum of every 16th line as decoded: cheap enough for every frame, and tells neighbours apart."""
    return zlib.crc32(np.ascontiguousarray(plane_samples(picture.planes[0])[::16]))


def orientation(picture: av.VideoFrame) -> tuple[bool, bool, bool]:
    """Return (transpose, then flip rows, flip columns) that set a picture upright as its display matrix says.

    The matrix maps a pixel (x, y) to (a x + c y, b x + d y), ffmpeg's libavutil/display.h.
    """
    try:
        a, b, _, c, d = np.frombuffer(picture.side_data["DISPLAYMATRIX"], np.int32)[:5]
    except KeyError:
        return False, False, False
    except ValueError:
        # PyAV cannot list side data of a kind it does not know, such as EXIF. The angle remains (not a mirror image).
        angle = np.deg2rad(picture.rotation)
        a, b, c, d = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    if abs(a) < abs(b):
        return True, bool(b < 0), bool(c < 0)
    return False, bool(d < 0), bool(a < 0)


def monotonic_runs(order: Iterable[int], limit: int) -> Iterator[list[int]]:
    """Cut `order` into runs that do not rise and fall both, each of at most `limit` indices."""
    run: list[int] = []
    direction = 0
    for index in map(int, order):
        step = index - run[-1] if run else 0
        if run and (len(run) == limit or step * direction < 0):
            yield run
            run, direction, step = [], 0, 0
        run.append(index)
        direction = direction or step
    if run:
        yield run
