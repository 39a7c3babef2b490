"""Video files, in and out: frames as 8-bit planar YUV, played in any order, and one H.264 encode with sound.

Frames stay in the YUV of their file from reading to writing, and only the patch around the mouth goes through RGB,
so that what the dubbing does not touch is changed by nothing but the encoder.
"""

import logging
import math
import tempfile
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, groupby
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from utils.errors import UserError, require_file
from utils.media.audio import SoundBlock, sound_blocks

logger = logging.getLogger(__name__)

AI_NOTE = "AI-generated: the mouth movements in this video were synthesised (DINet)"

UNSPECIFIED = 2  # in ffmpeg's enums of matrix, primaries and transfer alike
BT709 = 1
_PICTURE_BRANDS = frozenset(("heic", "heix", "heim", "heis", "mif1", "avif"))
"""HEIF files of one picture, which look like a video of one frame a second."""
STILL_RATE = Fraction(25)
STANDARD_RATES = tuple(
    Fraction(rate) for rate in ("24000/1001", "24", "25", "30000/1001", "30", "48", "50", "60000/1001", "60")
)

AAC_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)

# What `play` may hold in memory: bytes of frames, and frames.
PLAY_BYTES = 128 * 2**20
PLAY_FRAMES = 256
# Frames that may be decoded in vain to reach one by seeking. x264 sets a key frame every 250 frames or sooner.
LONGEST_APPROACH = 300

# Sharp chroma for whole frames. For patches one chroma sample stands for its 2x2 pixels, copied on the way to RGB and
# averaged on the way back: YUV -> RGB -> YUV is then the identity wherever RGB does not clip.
_PRECISE = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
_WHOLE_FRAME = int(Interpolation.BICUBIC | _PRECISE)
_PATCH_TO_RGB = int(Interpolation.POINT | _PRECISE)
_PATCH_TO_YUV = int(Interpolation.AREA | _PRECISE)

# ffmpeg's AVColorSpace -> swscale's table. Everything else, unspecified too, is BT.601 both ways: what ffmpeg and
# OpenCV take it for, and so what the networks' training frames were decoded with.
_SWSCALE_MATRIX = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}


@dataclass(frozen=True)
class Colour:
    """How the YUV of a file is to be understood, as integers of ffmpeg's enums (2 = unspecified)."""

    matrix: int
    primaries: int
    transfer: int

    @property
    def swscale_matrix(self) -> int:
        """The matrix by which swscale converts between this YUV and RGB."""
        return int(_SWSCALE_MATRIX.get(self.matrix, Colorspace.ITU601))


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video or picture file, as its frames are given out (even size, upright)."""

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
        yuv: uint8 [H * 3 // 2, W], planar 4:2:0 (I420), limited range. Read-only, as `play` gives a frame out more
            than once: copy it before drawing on it.
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
        return self.yuv.shape[0] * 2 // 3

    @property
    def luma(self) -> np.ndarray:
        """The brightness plane, uint8 [H, W], 16 (black) to 235 (white); a view."""
        return self.yuv[: self.height]


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


class _SeekError(Exception):
    """A frame could not be reached, or not with certainty, by seeking."""


@dataclass(frozen=True)
class _Index:
    """What one pass over a file has found, a value a frame."""

    times: np.ndarray  # float64 [N] seconds from the first frame
    pts: list[int | None]  # as stamped by the container
    prints: list[int]  # _fingerprint of the decoded picture
    keys: list[int]  # frames at which decoding can start; the first is 0


class VideoReader:
    """One video or picture file.

    Holds no file open between calls. To be used by one thread at a time.
    """

    info: VideoInfo

    def __init__(self, path: str | Path, option: str = "--source_video_path") -> None:
        """Open `path`, decode its first frame and close it again.

        Raises:
            UserError: naming `option`, if this is not a file with a picture that can be decoded.
        """
        path = require_file(path, option, "give a video or a picture")
        self._path = path
        self._index: _Index | None = None
        self._warned = False
        self._reformatter = VideoReformatter()
        try:
            with closing(_Track(path)) as track:
                first = next(track.frames(), None)
                stream = track.stream
                has_audio = bool(track.container.streams.audio)
                demuxer = track.container.format.name
                is_still = demuxer == "image2" or demuxer.endswith("_pipe")  # png_pipe, jpeg_pipe, ...
                is_still |= track.container.metadata.get("major_brand", "").strip() in _PICTURE_BRANDS
                rate = STILL_RATE if is_still else nominal_rate(stream.average_rate, stream.base_rate)
                aspect = stream.sample_aspect_ratio or Fraction(1)
        except _NoTrackError as error:
            raise UserError(f"{option}: {path} has no picture (sound only?); give a video or a picture") from error
        except (OSError, av.FFmpegError) as error:
            reason = error.strerror or error
            raise UserError(
                f"{option}: {path} is no video or picture that can be read, or is cut short ({reason}); "
                "give a file that a video player opens"
            ) from error
        if first is None:
            raise UserError(f"{option}: {path}: none of its frames can be decoded; give a file that a player opens")

        self._coded_size = first.width, first.height
        self._transpose, self._flip_rows, self._flip_columns = _orientation(first)
        width, height = (size + size % 2 for size in self._coded_size)
        if self._transpose:
            width, height, aspect = height, width, 1 / aspect
        self.info = VideoInfo(path, width, height, rate, _colour(first), aspect, has_audio, is_still)

    def frames(self) -> Iterator[Frame]:
        """Decode the whole file forwards, as a stream.

        Damaged packets are left out; one warning at the end says how many. A file that ends early gives the frames
        that are there.
        """
        for index, (time, picture) in enumerate(self._timed_pictures()):
            yield Frame(self._i420(picture), index, time)

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
        A video of constant rate gives 0 .. N-1 at its own rate. The last frame lasts one nominal frame.
        """
        ticks = np.floor(self.times * float(rate) + 0.5 + 1e-6)  # halves go up; the rest is for floats just below one
        duration = self.times[-1] + 1 / float(self.info.rate)
        count = max(1, int(np.floor(duration * float(rate) + 0.5 + 1e-6)))
        return np.searchsorted(ticks, np.arange(count), side="right") - 1

    def play(self, order: Iterable[int]) -> Iterator[Frame]:
        """Give out frames by index, in any order of forward and backward runs; bit-identical to those of `frames`.

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
            for run in _runs(order, capacity):
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
        with closing(_Track(self._path)) as track:
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
                if picture.key_frame or not times:
                    keys.append(len(times))
                times.append(seconds)
                pts.append(picture.pts)
                prints.append(_fingerprint(picture))
                yield seconds, picture
            damaged = track.damaged
        if damaged and not self._warned:
            logger.warning("%s: %d damaged packet(s) left out; %d frames decoded", self._path, damaged, len(times))
            self._warned = True
        if self._index is None:
            self._index = _Index(np.array(times), pts, prints, keys)

    def _i420(self, picture: av.VideoFrame) -> np.ndarray:
        """Return uint8 [H * 3 // 2, W]: limited range, 8 bits, upright, even size (last row or column repeated)."""
        width, height = self._coded_size
        full_range = _is_full_range(picture)
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
                interpolation=_WHOLE_FRAME,
            )
        yuv = np.empty((self.info.height * 3 // 2, self.info.width), np.uint8)
        for plane, target in zip(picture.planes, _planes(yuv), strict=True):
            samples = _samples(plane)
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
        options = {"crf": 0, "preset": "ultrafast", "gop": 30}
        with VideoWriter(path, info.width, info.height, STILL_RATE, info.colour, **options) as writer:
            for frame in self.frames():
                writer.write(frame.yuv)
        return VideoReader(path)


class _NoTrackError(Exception):
    """A file without a picture that could be decoded."""


class _Track:
    """The video track of a file, held open to be decoded; counts its damaged packets."""

    def __init__(self, path: Path) -> None:
        self.damaged = 0
        # An absolute path, as ffmpeg would take "a:b.mp4" for a protocol.
        self.container = av.open(str(path.absolute()), metadata_errors="replace")
        streams = self.container.streams
        # A cover picture is no video.
        usable = [
            stream
            for stream in streams.video
            if stream.codec_context is not None and not stream.disposition & Disposition.attached_pic
        ]
        if not usable:
            self.close()
            raise _NoTrackError
        best = streams.best("video")
        self.stream = best if best in usable else usable[0]
        self.stream.thread_type = "AUTO"

    def frames(self) -> Iterator[av.VideoFrame]:
        """Decode on from where the file stands, leaving out what is damaged."""
        for packet in self._packets():
            try:
                frames = self.stream.decode(packet)
            except av.FFmpegError:
                self.damaged += 1
                continue
            yield from frames

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
        """Return frame `wanted`, as `frames` gives it.

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
            if picture.pts != self._index.pts[index] or _fingerprint(picture) != self._index.prints[index]:
                break
            if index == wanted:
                return self._reader._i420(picture)
        raise _SeekError

    def _start(self) -> None:
        self._track = _Track(self._reader._path)
        self._pictures = self._track.frames()
        self._next = 0

    def _seek(self, wanted: int) -> None:
        """Stand at `wanted` or before it, at most LONGEST_APPROACH frames."""
        keys = self._index.keys[: bisect_right(self._index.keys, wanted)]
        # Some containers land one key frame late, so the ones before are tried too.
        for key in keys[:-4:-1]:
            if wanted - key > LONGEST_APPROACH:
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


class VideoWriter:
    """Writes one MP4: H.264, 8-bit 4:2:0, constant rate, with AAC sound taken from another file.

    A context manager. The file grows as `.NAME.partial.mp4` beside its target and is renamed when complete; if the
    block raises, it is removed.
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        rate: Fraction,
        colour: Colour,
        sample_aspect_ratio: Fraction | int = 1,
        crf: int = 18,
        preset: str = "fast",
        codec: str = "libx264",
        audio_path: str | Path | None = None,
        duration: float | None = None,
        comment: str | None = None,
        gop: int | None = None,
        threads: int = 0,
        audio_option: str = "--driving_audio_path",
    ) -> None:
        """Start the file.

        Args:
            path: the MP4 to write; its folder is made if it is not there.
            width: even, in pixels.
            height: even, in pixels.
            rate: frames per second.
            colour: tags for the player, those of the source.
            sample_aspect_ratio: width of a pixel over its height.
            crf: constant quality, 0 (lossless) to 51; its equivalent `cq` for NVENC.
            preset: of the encoder, faster or smaller.
            codec: ffmpeg's name of an H.264 encoder.
            audio_path: any file with an audio track; that of a video from its first picture on. More than two
                channels are mixed down to stereo.
            duration: seconds after which the sound ends; None: all of it.
            comment: metadata; None says that the video is AI-generated.
            gop: longest distance of key frames; None: the encoder's default.
            threads: of the encoder; 0: as many as the machine can use. The file depends on it.
            audio_option: command line option that `audio_path` came from, for error messages.

        Raises:
            UserError: if the file cannot be written, or `audio_path` has no sound.
        """
        self._path = Path(path)
        self._partial = self._path.with_name(f".{self._path.stem}.partial.mp4")
        self._shape = (height * 3 // 2, width)
        self._rate = Fraction(rate)
        self._frames = 0
        self._container: av.container.OutputContainer | None = None
        self._sound: Iterator[av.AudioFrame] | None = None
        self._sound_end = Fraction(0)
        if codec not in av.codecs_available or not _encodes_video(codec):
            raise UserError(f"video codec {codec} is not in this build of PyAV; use libx264")
        sound_format = None
        if audio_path is not None:
            with closing(sound_blocks(Path(audio_path), audio_option)) as blocks:
                first = next(blocks, None)
            if first is None:
                raise UserError(f"{audio_option}: {audio_path} holds no sound; give another file")
            sound_format = _aac_format(first)
        try:
            with self._disk_errors():
                self._make_room()
                self._container = av.open(
                    str(self._partial.absolute()), "w", format="mp4", options={"movflags": "+faststart"}
                )
                self._container.metadata["comment"] = AI_NOTE if comment is None else comment
                options = {"preset": preset, "crf": str(crf)}
                if codec.endswith("_nvenc"):
                    options = {"preset": preset, "rc": "vbr", "cq": str(crf), "b": "0"}
                self._video = self._container.add_stream(codec, self._rate, options=options)
                self._video.width, self._video.height, self._video.pix_fmt = width, height, "yuv420p"
                encoder = self._video.codec_context
                encoder.thread_type = "FRAME"  # PyAV's default, threads within a frame, costs x264 compression
                encoder.sample_aspect_ratio = Fraction(sample_aspect_ratio)
                encoder.colorspace = colour.matrix
                encoder.color_primaries = colour.primaries
                encoder.color_trc = colour.transfer
                encoder.color_range = int(ColorRange.MPEG)
                encoder.thread_count = threads
                if gop is not None:
                    encoder.gop_size = gop
                try:
                    encoder.open()
                except av.FFmpegError as error:
                    reason = error.strerror or error
                    raise UserError(f"codec {codec}, preset {preset}: cannot be used here ({reason})") from error
                if sound_format is not None:
                    sample_rate, layout = sound_format
                    self._audio = self._container.add_stream("aac", sample_rate, layout=layout)
                    self._audio.bit_rate = 96_000 * self._audio.codec_context.channels
                    frames = _sound_frames(Path(audio_path), audio_option)
                    self._sound = _aac_blocks(frames, sample_rate, layout, duration)
                self._container.start_encoding()  # opens the file: a folder that cannot be written shows here
        except BaseException:
            self._discard()
            raise

    def write(self, yuv: np.ndarray) -> None:
        """Append one frame, uint8 [H * 3 // 2, W] (I420), and the sound that belongs to it.

        Raises:
            UserError: if the disk is full or the file cannot be written.
        """
        if yuv.shape != self._shape or yuv.dtype != np.uint8:
            raise ValueError(f"a frame must be uint8 {self._shape}, not {yuv.dtype} {yuv.shape}")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(yuv), "yuv420p")
        frame.pts, frame.time_base = self._frames, 1 / self._rate
        self._frames += 1
        with self._disk_errors():
            self._container.mux(self._video.encode(frame))
            self._write_sound(until=self._frames / self._rate)

    def close(self) -> None:
        """Complete the file and give it its name.

        Raises:
            UserError: if the disk is full or the file cannot be written.
        """
        try:
            if self._frames == 0:
                raise ValueError(f"no frame was written to {self._path}")
            with self._disk_errors():
                self._container.mux(self._video.encode(None))
                self._write_sound(until=None)
                self._container.close()
                self._partial.replace(self._path)
        except BaseException:
            self._discard()
            raise

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self._discard()

    def _write_sound(self, until: Fraction | None) -> None:
        """Encode sound up to `until` seconds, or all there is, so that the two tracks stay interleaved."""
        while self._sound is not None and (until is None or self._sound_end < until):
            block = next(self._sound, None)
            self._container.mux(self._audio.encode(block))
            if block is None:
                self._sound = None
            else:
                self._sound_end = Fraction(block.pts + block.samples, block.sample_rate)

    def _make_room(self) -> None:
        if self._path.is_dir():
            raise UserError(f"{self._path} is a folder, but the result is to have that name; rename the folder")
        if self._path.parent.is_file():
            raise UserError(f"{self._path.parent} is a file, but the result is to go into a folder of that name")
        self._path.parent.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # PyAV's errors of the system are OSErrors too
            raise UserError(
                f"{self._path} cannot be written ({error.strerror or error}); "
                "check the folder, its permissions and the free space"
            ) from error

    def _discard(self) -> None:
        """Close and remove the partial file, whatever state it is in."""
        if self._container is not None:
            try:
                self._container.close()
            except (OSError, av.FFmpegError) as error:
                logger.debug("%s: %s", self._partial, error)
        if self._sound is not None:
            self._sound.close()
        with suppress(OSError):
            self._partial.unlink()


def rgb_patch(yuv: np.ndarray, top: int, bottom: int, left: int, right: int, colour: Colour) -> np.ndarray:
    """Return rows top:bottom, columns left:right of an I420 frame as RGB, uint8 [h, w, 3].

    Args:
        yuv: uint8 [H * 3 // 2, W], limited range.
        top: even, like the other bounds, which lie inside the frame.
        bottom: one past the last row.
        left: first column.
        right: one past the last column.
        colour: of the file the frame is from.
    """
    planes = _patch(yuv, top, bottom, left, right)
    patch = np.concatenate([plane.reshape(-1) for plane in planes]).reshape(-1, right - left)
    rgb = av.VideoFrame.from_ndarray(patch, "yuv420p").reformat(
        format="rgb24",
        src_colorspace=colour.swscale_matrix,
        dst_colorspace=colour.swscale_matrix,
        src_color_range=int(ColorRange.MPEG),
        dst_color_range=int(ColorRange.JPEG),
        interpolation=_PATCH_TO_RGB,
        threads=1,
    )
    return np.ascontiguousarray(rgb.to_ndarray())


def set_rgb_patch(yuv: np.ndarray, top: int, left: int, rgb: np.ndarray, colour: Colour) -> None:
    """Draw RGB, uint8 [h, w, 3], on an I420 frame, in place; the inverse of `rgb_patch`.

    Args:
        yuv: uint8 [H * 3 // 2, W], limited range, writable.
        top: first row, even, like `left`, h and w.
        left: first column.
        rgb: the patch; must lie inside the frame.
        colour: of the file the frame is from.
    """
    height, width = rgb.shape[:2]
    targets = _patch(yuv, top, top + height, left, left + width)
    patch = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24").reformat(
        format="yuv420p",
        src_colorspace=colour.swscale_matrix,
        dst_colorspace=colour.swscale_matrix,
        src_color_range=int(ColorRange.JPEG),
        dst_color_range=int(ColorRange.MPEG),
        interpolation=_PATCH_TO_YUV,
        threads=1,
    )
    for plane, target in zip(patch.planes, targets, strict=True):
        target[:] = _samples(plane)


def _patch(yuv: np.ndarray, top: int, bottom: int, left: int, right: int) -> list[np.ndarray]:
    """Views of the patch in each of the three planes."""
    height, width = yuv.shape[0] * 2 // 3, yuv.shape[1]
    inside = 0 <= top < bottom <= height and 0 <= left < right <= width
    if not inside or any(bound % 2 for bound in (top, bottom, left, right)):
        raise ValueError(f"rows {top}:{bottom}, columns {left}:{right} are odd or outside {width}x{height}")
    return [
        plane[top // step : bottom // step, left // step : right // step]
        for plane, step in zip(_planes(yuv), (1, 2, 2), strict=True)
    ]


def _planes(yuv: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Views of Y [H, W], U and V [H // 2, W // 2] in a contiguous I420 array."""
    height, width = yuv.shape[0] * 2 // 3, yuv.shape[1]
    if not yuv.flags.c_contiguous:
        raise ValueError("an I420 frame must be contiguous to be seen as three planes")
    chroma = yuv[height:].reshape(2, height // 2, width // 2)
    return yuv[:height], chroma[0], chroma[1]


def _samples(plane: av.video.plane.VideoPlane) -> np.ndarray:
    """A plane of 8-bit samples, uint8 [rows, columns], without the padding of its lines; a view."""
    lines = np.frombuffer(plane, np.uint8).reshape(-1, abs(plane.line_size))
    if plane.line_size < 0:  # stored from the bottom up
        lines = lines[::-1]
    return lines[: plane.height, : plane.width]


def _fingerprint(picture: av.VideoFrame) -> int:
    """A checksum of every 16th line as decoded: cheap enough for every frame, and tells neighbours apart."""
    return zlib.crc32(np.ascontiguousarray(_samples(picture.planes[0])[::16]))


def _is_full_range(picture: av.VideoFrame) -> bool:
    name = picture.format.name
    if picture.color_range == ColorRange.UNSPECIFIED:
        return name.startswith(("yuvj", "gray"))
    return picture.color_range == ColorRange.JPEG


def _colour(picture: av.VideoFrame) -> Colour:
    """The tags of a file's YUV, kept as they are, or BT.709 for one made here from RGB."""
    tags = picture.colorspace, picture.color_primaries, picture.color_trc
    if picture.format.is_rgb or picture.format.has_palette:
        return Colour(BT709, *(BT709 if tag in (0, UNSPECIFIED) else tag for tag in tags[1:]))
    # 0 is "RGB" as a matrix and reserved as the others
    return Colour(*(UNSPECIFIED if tag == 0 else tag for tag in tags))


def _orientation(picture: av.VideoFrame) -> tuple[bool, bool, bool]:
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


def _runs(order: Iterable[int], limit: int) -> Iterator[list[int]]:
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


def _encodes_video(codec: str) -> bool:
    try:
        return av.Codec(codec, "w").type == "video"
    except ValueError:  # it only decodes
        return False


def _aac_format(sound: SoundBlock) -> tuple[int, str]:
    """Return the (sample rate, layout) in which AAC keeps sound like this."""
    # Players are sure of AAC up to 48 kHz; the encoder has no other rates than these.
    rate = sound.rate if sound.rate in AAC_RATES else 48_000
    return rate, "mono" if len(sound.samples) == 1 else "stereo"


def _sound_frames(path: Path, option: str) -> Iterator[av.AudioFrame]:
    """A file's sound as the speech features see it too: without holes, from the moment of the first picture on."""
    for block in sound_blocks(path, option):
        # Packed, as PyAV cannot fill the planes of eight channels and more.
        samples = np.ascontiguousarray(block.samples.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, "flt", block.layout)
        frame.sample_rate = block.rate
        yield frame


def _aac_blocks(
    frames: Iterator[av.AudioFrame], rate: int, layout: str, duration: float | None
) -> Iterator[av.AudioFrame]:
    """Cut sound into blocks of at most 1024 samples, gapless from 0 s, up to `duration` seconds."""
    left = math.inf if duration is None else round(duration * rate)
    position = 0
    queue = av.AudioFifo()
    with closing(frames):
        for frame in chain(_resampled(frames, rate, layout), [None]):
            if frame is not None:
                queue.write(frame)
            while left and (block := queue.read(int(min(1024, left)), partial=frame is None)):
                block.pts, block.time_base = position, Fraction(1, rate)
                position += block.samples
                left -= block.samples
                yield block
            if not left:
                return


def _resampled(frames: Iterator[av.AudioFrame], rate: int, layout: str) -> Iterator[av.AudioFrame]:
    """Convert sound, whose format may change on the way, to one rate and layout, without time stamps."""
    for _, same in groupby(frames, key=lambda frame: (frame.format.name, frame.layout.name, frame.sample_rate)):
        resampler = av.AudioResampler("fltp", layout, rate)
        for frame in chain(same, [None]):
            for piece in resampler.resample(frame):
                if piece is not None:  # what a resampler with nothing to do makes of the end
                    piece.pts = None  # those of a cut or damaged file have gaps
                    yield piece
