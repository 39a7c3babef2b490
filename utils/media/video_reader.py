"""Reads video and image files: frames as 8-bit planar YUV, in file order or in any other."""

import logging
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter

from utils.errors import UserError, require_file
from utils.media.container import as_fraction
from utils.media.limits import MediaLimits, current_limits
from utils.media.video_track import (
    STILL_RATE,
    NoTrackError,
    TooLargeError,
    Track,
    fingerprint,
    monotonic_runs,
    orientation,
    shown_at_ticks,
)
from utils.media.video_writer import EncoderSettings, VideoWriter
from utils.media.yuv import (
    WHOLE_FRAME,
    Colour,
    colour_of,
    i420_shape,
    is_full_range,
    luma_height,
    plane_samples,
    planes,
)

logger = logging.getLogger(__name__)

_PICTURE_BRANDS = frozenset(("heic", "heix", "heim", "heis", "mif1", "avif"))
"""HEIF files of one image, which look like a video of one frame per second."""

# Limits of `play` on its memory: bytes of frames, and number of frames.
PLAY_BYTES = 128 * 2**20
PLAY_FRAMES = 256
# Maximum number of frames decoded and dropped to reach one by seeking. x264 sets key frames at most 250 frames apart.
MAX_APPROACH_FRAMES = 300


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video or image file, as its frames are returned (even size, upright)."""

    path: Path
    width: int
    height: int
    rate: Fraction
    colour: Colour
    sample_aspect_ratio: Fraction
    has_audio: bool
    is_still: bool


@dataclass(frozen=True)
class Frame:
    """One decoded frame.

    Attributes:
        yuv: uint8 [H * 3 // 2, W], planar 4:2:0 (I420), limited range. Read-only, because `play` may return a
            frame more than once: copy it before drawing on it.
        index: position in display order, 0 first.
        time: seconds from the first frame.
    """

    yuv: np.ndarray
    index: int
    time: float

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.yuv.shape[1]

    @property
    def height(self) -> int:
        """Height in pixels."""
        return luma_height(self.yuv)

    @property
    def luma(self) -> np.ndarray:
        """The brightness plane, uint8 [H, W], 16 (black) to 235 (white); a view."""
        return self.yuv[: self.height]


class _SeekError(Exception):
    """A frame could not be reached, or not with certainty, by seeking."""


@dataclass(frozen=True)
class _Index:
    """Results of one pass over a file, one value per frame."""

    times: np.ndarray  # float64 [N] seconds from the first frame
    pts: list[int | None]  # as stamped by the container
    prints: list[int]  # fingerprint of the decoded picture
    keys: list[int]  # frames at which decoding can start; the first is 0


class VideoReader:
    """One video or image file.

    Keeps no file open between calls. Must be used by one thread at a time.
    """

    info: VideoInfo

    def __init__(self, path: str | Path, option: str | None = None, limits: MediaLimits | None = None) -> None:
        """Open `path`, decode its first frame and close it again.

        Args:
            path: a video or image.
            option: command-line option that named it, for error messages; None where the caller uses `blame`.
            limits: largest frame and longest video; a longer one is refused when its frames are read. None: those
                of the script.

        Raises:
            UserError: naming `option`, if given (see utils.errors.blame), if no frame of the file can be decoded,
                or it is beyond `limits`.
        """
        path = require_file(path, option, "give a video or a picture")
        named = f"{option}: {path}" if option else f"{path}"
        self._path = path
        self._named = named
        self._limits = limits = limits or current_limits()
        self._index: _Index | None = None
        self._warned = False
        self._reformatter = VideoReformatter()
        try:
            with closing(Track(path, limits.max_pixels)) as track:
                first = next(track.frames(), None)
                stream = track.stream
                has_audio = bool(track.container.streams.audio)
                demuxer = track.container.format.name
                is_still = demuxer == "image2" or demuxer.endswith("_pipe")  # png_pipe, jpeg_pipe, ...
                is_still |= track.container.metadata.get("major_brand", "").strip() in _PICTURE_BRANDS
                rate = STILL_RATE if is_still else track.rate()
                aspect = as_fraction(stream.sample_aspect_ratio) or Fraction(1)
        except TooLargeError as error:
            raise UserError(
                f"{named} has pictures of {error}, more than {limits.max_pixels} pixels; "
                "make it smaller, or raise --max_pixels"
            ) from None
        except NoTrackError as error:
            raise UserError(f"{named} has no picture (sound only?); give a video or a picture") from error
        except (OSError, av.FFmpegError) as error:
            reason = error.strerror or error
            raise UserError(
                f"{named} is no video or picture that can be read, or is cut short ({reason}); "
                "give a file that a video player opens"
            ) from error
        if first is None:
            raise UserError(
                f"{named}: none of its frames can be decoded; give a file that a player opens, of at most "
                f"{limits.max_pixels} pixels per frame (--max_pixels)"
            )

        self._coded_size = first.width, first.height
        self._transpose, self._flip_rows, self._flip_columns = orientation(first)
        width, height = (size + size % 2 for size in self._coded_size)
        if self._transpose:
            width, height, aspect = height, width, 1 / aspect
        self.info = VideoInfo(path, width, height, rate, colour_of(first), aspect, has_audio, is_still)

    def __getstate__(self) -> dict[str, object]:
        """A reader can be sent to another process, together with the index of its file."""
        return {name: value for name, value in vars(self).items() if name != "_reformatter"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._reformatter = VideoReformatter()

    def frames(self) -> Iterator[Frame]:
        """Decode the whole file forwards, as a stream.

        Damaged packets are left out, with one warning at the end. Of a file that ends early, the frames before its end
        are returned.
        """
        for index, (time, picture) in enumerate(self._timed_pictures()):
            yield Frame(self.to_i420(picture), index, time)

    @property
    def times(self) -> np.ndarray:
        """Time of every frame, float64 [N], seconds from the first; decodes the file if no pass has been made yet."""
        if self._index is None:
            for _ in self._timed_pictures():
                pass
        return self._index.times

    def timeline(self, rate: Fraction) -> np.ndarray:
        """Return which frame is shown at each tick of a constant rate, int64 [M], M = round(duration * rate) >= 1.

        As ffmpeg's fps filter: a frame belongs to the tick nearest to its time, and is shown until the next one's.
        For a video of constant rate at its own rate this is 0 .. N-1. The last frame lasts one nominal frame.
        """
        return shown_at_ticks(self.times, self.info.rate, rate)

    def play(self, order: Iterable[int]) -> Iterator[Frame]:
        """Yield frames by index, in any order of forward and backward runs; bit-identical to those of `frames`.

        At most PLAY_FRAMES frames and PLAY_BYTES bytes of them are held. A clip that fits is decoded once; otherwise
        forward runs are decoded as they come, and backward runs piece by piece, each from the key frame before it.
        `order` may be endless; up to PLAY_FRAMES of its indices are read ahead.
        """
        count = len(self.times)
        frame_bytes = self.info.width * self.info.height * 3 // 2
        capacity = max(2, min(PLAY_FRAMES, PLAY_BYTES // frame_bytes))
        if count <= capacity:
            held = list(self.frames())
            for index in order:
                yield held[index]
            return

        with ExitStack() as stack:
            cursor = stack.enter_context(closing(_Cursor(self)))

            def fetch(index: int) -> Frame:
                nonlocal cursor
                try:
                    yuv = cursor.yuv(index)
                except _SeekError:
                    # Rare: no time stamps, an inexact seek, or key frames very far apart. Decoding from the start of
                    # the file for every piece would cost the square of its length, so one pass makes a lossless copy
                    # with a key frame every second or so. It costs disk (about 1 MB a frame at 1080p), not memory.
                    logger.info("%s: making a temporary copy that can be played backwards", self._path)
                    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dinet-"))
                    cursor = stack.enter_context(closing(_Cursor(self._seekable_copy(Path(folder)))))
                    yuv = cursor.yuv(index)
                return Frame(yuv, index, float(self.times[index]))

            frame = None
            for run in monotonic_runs(order, capacity):
                if run[-1] < run[0]:
                    piece = {index: fetch(index) for index in sorted(set(run))}
                    yield from (piece[index] for index in run)
                    piece.clear()  # before the next one is decoded
                    continue
                for index in run:
                    if frame is None or frame.index != index:
                        frame = fetch(index)
                    yield frame

    def _timed_pictures(self) -> Iterator[tuple[float, av.VideoFrame]]:
        """Decode the whole file: (seconds from the first frame, picture). A complete pass fills the index."""
        times: list[float] = []
        pts: list[int | None] = []
        prints: list[int] = []
        keys: list[int] = []
        with closing(Track(self._path, self._limits.max_pixels)) as track:
            start = None
            for picture in track.frames():
                time = None if picture.pts is None else float(picture.pts * track.stream.time_base)
                if start is None:
                    start = time
                if not times:
                    seconds = 0.0
                elif time is None or start is None or time - start <= times[-1]:
                    seconds = times[-1] + 1 / float(self.info.rate)  # no time stamp, or one that goes backwards
                else:
                    seconds = time - start
                if seconds > self._limits.max_seconds:
                    raise UserError(
                        f"{self._named}: frame {len(times)} is shown at {seconds:.0f} s, later than "
                        f"{self._limits.max_seconds:g} s; cut the video, or raise --max_seconds"
                    )
                if picture.key_frame or not times:
                    keys.append(len(times))
                times.append(seconds)
                pts.append(picture.pts)
                prints.append(fingerprint(picture))
                yield seconds, picture
            damaged = track.damaged
        if damaged and not self._warned:
            logger.warning("%s: %d damaged packet(s) left out; %d frames decoded", self._path, damaged, len(times))
            self._warned = True
        if self._index is None:
            self._index = _Index(np.array(times), pts, prints, keys)

    def to_i420(self, picture: av.VideoFrame) -> np.ndarray:
        """Return uint8 [H * 3 // 2, W]: limited range, 8 bits, upright, even size (last row or column repeated)."""
        width, height = self._coded_size
        full_range = is_full_range(picture)
        if picture.format.name != "yuv420p" or full_range or (picture.width, picture.height) != (width, height):
            picture = self._reformatter.reformat(
                picture,
                width,
                height,
                "yuv420p",
                src_colorspace=self.info.colour.swscale_matrix,
                dst_colorspace=self.info.colour.swscale_matrix,
                src_color_range=int(ColorRange.JPEG if full_range else ColorRange.MPEG),
                dst_color_range=int(ColorRange.MPEG),
                interpolation=WHOLE_FRAME,
            )
        yuv = np.empty(i420_shape(self.info.width, self.info.height), np.uint8)
        for plane, target in zip(picture.planes, planes(yuv), strict=True):
            samples = plane_samples(plane)
            rows, columns = target.shape[::-1] if self._transpose else target.shape
            if samples.shape != (rows, columns):  # luma of an odd size; the chroma planes are rounded up already
                samples = np.pad(samples, ((0, rows - samples.shape[0]), (0, columns - samples.shape[1])), "edge")
            if self._transpose:
                samples = samples.T
            target[:] = samples[:: -1 if self._flip_rows else 1, :: -1 if self._flip_columns else 1]
        yuv.flags.writeable = False
        return yuv

    def _seekable_copy(self, folder: Path) -> "VideoReader":
        """Write all frames, losslessly, to a file in `folder` that seeks well."""
        path, info = folder / "copy.mp4", self.info
        encoder = EncoderSettings(crf=0, preset="ultrafast", gop=30)
        with VideoWriter(path, info.width, info.height, STILL_RATE, info.colour, encoder=encoder) as writer:
            for frame in self.frames():
                writer.write(frame.yuv)
        return VideoReader(path)


class _Cursor:
    """A reader's file, held open to decode frames by index."""

    def __init__(self, reader: VideoReader) -> None:
        _ = reader.times  # fills the index
        self._reader = reader
        self._index = reader._index
        self._position = {pts: index for index, pts in enumerate(self._index.pts) if pts is not None}
        self._start()

    def close(self) -> None:
        """Close the file."""
        self._track.close()

    def yuv(self, wanted: int) -> np.ndarray:
        """Return frame `wanted`, identical to that of `frames`.

        Raises:
            _SeekError: if what is decoded there is not, bit for bit, what the index says.
        """
        if not 0 <= wanted < len(self._index.pts):
            raise IndexError(f"no frame {wanted} in {self._reader.info.path}")
        key = self._index.keys[bisect_right(self._index.keys, wanted) - 1]
        # Seeking costs the decoder's pipeline: a near key frame is reached sooner by decoding on.
        if wanted < self._next or key > self._next + 32:
            self._seek(wanted)
        for picture in self._pictures:
            index = self._next
            self._next += 1
            if picture.pts != self._index.pts[index] or fingerprint(picture) != self._index.prints[index]:
                break
            if index == wanted:
                return self._reader.to_i420(picture)
        raise _SeekError

    def _start(self) -> None:
        self._track = Track(self._reader._path, self._reader._limits.max_pixels)
        self._pictures = self._track.frames()
        self._next = 0

    def _seek(self, wanted: int) -> None:
        """Seek to `wanted` or to at most MAX_APPROACH_FRAMES before it."""
        keys = self._index.keys[: bisect_right(self._index.keys, wanted)]
        # Some containers land one key frame late, so the ones before are tried too.
        for key in keys[:-4:-1]:
            if wanted - key > MAX_APPROACH_FRAMES:
                break
            if key == 0:
                self.close()
                self._start()
                return
            if len(self._position) < len(self._index.pts):
                break  # missing or repeated time stamps do not say where a seek has landed
            try:
                self._track.container.seek(self._index.pts[key], stream=self._track.stream)
            except av.FFmpegError:
                break
            pictures = self._track.frames()
            first = next(pictures, None)
            position = self._position.get(first.pts) if first else None
            if position is not None and position <= wanted:
                self._pictures = chain([first], pictures)
                self._next = position
                return
        raise _SeekError
