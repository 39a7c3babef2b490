"""Writes video files: H.264 from 8-bit planar YUV, with the audio of another file as AAC."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video.reformatter import ColorRange

from utils.errors import UserError
from utils.files import PartialFile
from utils.media.aac import AacTrack, aac_format
from utils.media.yuv import Colour, i420_shape

logger = logging.getLogger(__name__)

_PLAYABLE = {"h264", "hevc", "av1"}
"""Codecs that players expect in an MP4 file."""


@dataclass(frozen=True)
class EncoderSettings:
    """How the video track is encoded.

    `crf` is the constant quality, 0 (lossless) to 51, or its equivalent `cq` for NVENC; `preset` of the encoder, speed
    against file size; `codec` ffmpeg's name of an H.264 encoder; `gop` the longest distance of key frames (None: the
    encoder's default); `threads` of the encoder (0: as many as the machine has; the file depends on it);
    `fast_decode`: libx264 leaves out what is slow to decode.
    """

    crf: int = 18
    preset: str = "fast"
    codec: str = "libx264"
    gop: int | None = None
    threads: int = 0
    fast_decode: bool = False


class VideoWriter:
    """Writes one MP4: H.264, 8-bit 4:2:0, constant rate, with AAC audio taken from another file.

    A context manager. The file grows as a partial file beside its target and is renamed when complete; if the block
    raises, it is removed.
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        rate: Fraction,
        colour: Colour,
        sample_aspect_ratio: Fraction | int = 1,
        encoder: EncoderSettings | None = None,
        audio_path: str | Path | None = None,
        duration: float | None = None,
        comment: str = "",
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
            encoder: settings of the video track; None: the defaults.
            audio_path: any file with an audio track; that of a video from its first frame on. More than two
                channels are mixed down to stereo.
            duration: seconds after which the audio ends; None: all of it.
            comment: metadata of the file.
            audio_option: command line option that `audio_path` came from, for error messages.

        Raises:
            UserError: if the file cannot be written, or `audio_path` has no audio.
        """
        self._path = Path(path)
        self._partial: PartialFile | None = None
        self._shape = i420_shape(width, height)
        self._rate = Fraction(rate)
        self._frames = 0
        self._container: av.container.OutputContainer | None = None
        self._audio: AacTrack | None = None
        settings = encoder or EncoderSettings()
        _check_codec(settings.codec)
        audio_format = None if audio_path is None else aac_format(Path(audio_path), audio_option)
        try:
            with self._disk_errors():
                self._make_room()
                self._partial = PartialFile(self._path)
                self._container = av.open(
                    self._partial.writable_name, "w", format="mp4", options={"movflags": "+faststart"}
                )
                self._container.metadata["comment"] = comment
                self._video = self._add_video(settings, width, height, colour, Fraction(sample_aspect_ratio))
                if audio_format is not None:
                    self._audio = AacTrack(self._container, Path(audio_path), audio_format, duration, audio_option)
                self._container.start_encoding()  # opens the file: a folder that cannot be written shows here
        except BaseException:
            self._discard()
            raise

    def _add_video(
        self, settings: EncoderSettings, width: int, height: int, colour: Colour, sample_aspect_ratio: Fraction
    ) -> av.VideoStream:
        """Add the video track and open its encoder.

        Raises:
            UserError: the encoder refuses the settings.
        """
        codec, preset, crf = settings.codec, settings.preset, settings.crf
        options = {"preset": preset, "crf": str(crf)}
        if codec.endswith("_nvenc"):
            options = {"preset": preset, "rc": "vbr", "cq": str(crf), "b": "0"}
        elif codec == "libx264" and _has_avx512():
            options["x264-params"] = "asm=avx2"
        if settings.fast_decode and codec == "libx264":
            options["tune"] = "fastdecode"
        stream = self._container.add_stream(codec, self._rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.thread_type = "FRAME"  # PyAV's default, threads within a frame, costs x264 compression
        context.sample_aspect_ratio = sample_aspect_ratio
        context.colorspace = colour.matrix
        context.color_primaries = colour.primaries
        context.color_trc = colour.transfer
        context.color_range = int(ColorRange.MPEG)
        context.thread_count = settings.threads
        if settings.gop is not None:
            context.gop_size = settings.gop
        try:
            context.open()
        except av.FFmpegError as error:
            reason = error.strerror or error
            raise UserError(
                f"video codec {codec} with preset {preset} cannot be used here ({reason}); use a preset of "
                "that encoder (libx264: ultrafast, veryfast, fast, medium, slow ...) or another video codec"
            ) from error
        return stream

    def write(self, yuv: np.ndarray) -> None:
        """Append one frame, uint8 [H * 3 // 2, W] (I420), and the audio that belongs to it.

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
            if self._audio is not None:
                self._audio.write(until=self._frames / self._rate)

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
                if self._audio is not None:
                    self._audio.write(until=None)
                self._container.close()
                self._partial.complete()
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

    def _make_room(self) -> None:
        if self._path.is_dir():
            raise UserError(f"{self._path} is a folder, but the result is to have that name; rename the folder")
        if self._path.parent.is_file():
            raise UserError(
                f"{self._path.parent} is a file, but the result is to go into a folder of that name; name another one"
            )
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
                logger.debug(f"{self._path}: {error}")
        if self._audio is not None:
            self._audio.close()
        if self._partial is not None:
            self._partial.discard()


@lru_cache
def _has_avx512() -> bool:
    """Whether x264 would use AVX-512 here, as far as the system tells.

    That code of x264's macroblock tree reads uninitialised memory at most frame widths: every run then makes another
    file of the same frames. Without it encoding takes no longer (720p, measured).
    """
    try:
        return "avx512f" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


def _check_codec(codec: str) -> None:
    """Raise UserError for a codec that PyAV cannot encode, or that players do not expect in an MP4."""
    if codec not in av.codecs_available or not _encodes_video(codec):
        raise UserError(f"video codec {codec} is not in this build of PyAV; use libx264")
    if av.Codec(codec, "w").canonical_name not in _PLAYABLE:
        raise UserError(
            f"video codec {codec} makes no MP4 that players open; use an encoder of H.264, H.265 or AV1, such as "
            "libx264"
        )


def _encodes_video(codec: str) -> bool:
    try:
        return av.Codec(codec, "w").type == "video"
    except ValueError:  # it only decodes
        return False
