"""Decode any audio to a mono waveform; write WAV.

Files are decoded as streams: only the samples that are asked for stay in memory.
"""

import logging
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from utils.errors import UserError, require_file
from utils.files import atomic_path
from utils.media.container import open_input
from utils.media.limits import MediaLimits, current_limits
from utils.media.resampling import ResampyStream, soxr_stream

logger = logging.getLogger(__name__)

SPEECH_RATE = 16000
"""Sampling rate of every speech feature, in Hz."""
SILENCE_PEAK = 1e-3
"""A waveform whose peak stays below this (-60 dBFS) holds no speech."""

_MAX_DRIFT_SECONDS = 0.1  # smaller jumps of the time stamps are rounding or drift, no hole
_MAX_HOLE_SECONDS = 600  # larger jumps come from another clock, and are ignored
_WRITE_BLOCK = 1 << 20

_UNKNOWN_WAV_BYTES = 0x7FFFF000  # and more: written by a program that did not know the length

# Containers that state the length of their audio exactly; others only estimate it from the file's size.
_EXACT_LENGTH_FORMATS = {"mov,mp4,m4a,3gp,3g2,mj2", "wav", "flac", "aiff", "au"}


@dataclass(frozen=True)
class Waveform:
    """Mono audio: `samples` float32 [N] in [-1, 1], `rate` in Hz."""

    samples: np.ndarray
    rate: int

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.rate


def load_waveform(
    path: str | Path,
    option: str,
    rate: int = SPEECH_RATE,
    channel: str = "mean",
    resampler: str = "soxr",
    limits: MediaLimits | None = None,
) -> Waveform:
    """Decode the audio of an audio or video file.

    Of a video, sample 0 is at the time of the first frame: audio that starts later is padded with zeros, audio that
    starts earlier is cut. Holes in the time stamps become zeros. Needs no more memory than the result.

    Args:
        path: any format, sample type and number of channels.
        option: command line option that `path` came from, for error messages.
        rate: sampling rate of the result in Hz.
        channel: "mean" of all channels, or "first" as the published code does. If the result would be silent (an empty
            first channel; channels in opposite phase, which cancel), the other choice is used.
        resampler: "soxr", or "resampy" (`kaiser_best`, as the published code does; slow).
        limits: longest audio, lowest and highest sampling rate; None: those of the script.

    Raises:
        UserError: not a readable file, no audio in it, a file that was cut off, or one beyond `limits`.
    """
    path = require_file(path, option, "give an audio file, or a video with sound")
    mixer = _Mixer(None if channel == "mean" else 0)
    samples = _decode_mono(path, option, rate, resampler, mixer, limits)
    remedy = mixer.remedy()
    if remedy is not None:
        logger.warning(f"{option}: {path}: {remedy.reason}")
        samples = _decode_mono(path, option, rate, resampler, remedy.mixer, limits)
    if len(samples) == 0:
        raise UserError(f"{option}: {path} holds no sound (zero samples); give another audio file")
    np.clip(samples, -1, 1, out=samples)
    return Waveform(samples, rate)


def check_not_silent(waveform: Waveform, path: str | Path, option: str) -> None:
    """Raise UserError for a silent waveform: a peak below -60 dBFS."""
    if max(waveform.samples.max(), -waveform.samples.min()) < SILENCE_PEAK:
        raise UserError(f"{option}: {path} is silent: the mouth would not move; give a file with speech in it")


def write_wav(path: str | Path, waveform: Waveform) -> None:
    """Write 16-bit PCM mono. A sample of k / 32768 is read back exactly; +1 becomes 32767 / 32768.

    Raises:
        UserError: the file cannot be written; nothing is left behind.
    """
    path = Path(path)
    try:
        with atomic_path(path) as partial, partial.open("wb") as stream, wave.open(stream, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(waveform.rate)
            for start in range(0, len(waveform.samples), _WRITE_BLOCK):
                file.writeframes(to_int16(waveform.samples[start : start + _WRITE_BLOCK], np.rint).tobytes())
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); choose a folder that you may write to"
        ) from error


def to_int16(samples: np.ndarray, rounding: np.ufunc) -> np.ndarray:
    """Samples in [-1, 1] as int16 [N], rounded by np.rint or np.trunc."""
    return np.clip(rounding(samples * np.float32(32768)), -32768, 32767).astype(np.int16)


def _decode_mono(
    path: Path, option: str, rate: int, resampler: str, mixer: "_Mixer", limits: MediaLimits | None
) -> np.ndarray:
    """Float32 [N] at `rate`, not yet clipped."""
    make_stream = {"soxr": soxr_stream, "resampy": ResampyStream}[resampler]
    result = bytearray()  # grows in place, where a list of blocks would need as much again to be joined
    stream, stream_rate = None, 0
    nothing = np.zeros(0, np.float32)
    for block in audio_blocks(path, option, limits):
        if block.rate != stream_rate:
            if stream is not None:
                result += stream.resample_chunk(nothing, last=True).tobytes()
            stream, stream_rate = make_stream(block.rate, rate), block.rate
        result += stream.resample_chunk(mixer.mix(block.samples), last=False).tobytes()
    if stream is not None:
        result += stream.resample_chunk(nothing, last=True).tobytes()
    return np.frombuffer(result, np.float32)


@dataclass(frozen=True)
class AudioBlock:
    """Decoded audio: `samples` float32 [channels, n], full scale at 1; `rate` in Hz; FFmpeg's name of the layout."""

    samples: np.ndarray
    rate: int
    layout: str


@dataclass(frozen=True)
class _Remedy:
    mixer: "_Mixer"
    reason: str


class _Mixer:
    """Mixes blocks to mono, and detects whether the result is silent because of the mix.

    Args:
        channel: the channel to take; None mixes all by their mean.
    """

    def __init__(self, channel: int | None):
        self.channel = channel
        self.power = np.zeros(0)  # sum of squares of each channel
        self.mixed_power = 0.0

    def mix(self, block: np.ndarray) -> np.ndarray:
        """Mono [n] from float32 [channels, n]."""
        channels = len(block)
        if channels > len(self.power):
            self.power = np.pad(self.power, (0, channels - len(self.power)))
        self.power[:channels] += np.einsum("cn,cn->c", block, block)
        taken = self.channel is not None and self.channel < channels
        mono = np.ascontiguousarray(block[self.channel]) if taken else block.mean(axis=0)
        self.mixed_power += float(mono @ mono)
        return mono

    def remedy(self) -> _Remedy | None:
        """The mix to use instead, if this one lost the audio."""
        loudest = self.power.max(initial=0)
        if self.channel is not None:
            if self.power[self.channel : self.channel + 1].sum() <= 1e-6 * loudest and loudest > 0:
                return _Remedy(_Mixer(None), "the first channel is silent, the mean of all is taken")
            return None
        # Channels that have nothing to do with each other add up to this much; a tenth of it means that they cancel.
        unrelated = self.power.sum() / max(len(self.power), 1) ** 2
        if self.mixed_power < 0.1 * unrelated:
            channel = int(np.flatnonzero(self.power >= loudest / 2)[0])
            return _Remedy(_Mixer(channel), f"the channels cancel each other, channel {channel + 1} is taken alone")
        return None


def audio_blocks(path: Path, option: str, limits: MediaLimits | None = None) -> Iterator[AudioBlock]:
    """Yield the default audio track in order and without holes, from the time of the first frame on.

    Raises:
        UserError: not a readable file, no audio track, a file that was cut off, or one beyond `limits`.
    """
    limits = limits or current_limits()
    with _open_container(path, option) as container:
        stream = container.streams.best("audio")
        if stream is None or stream.codec_context is None:
            raise UserError(f"{option}: {path} has no audio track; give an audio file, or a video with sound")
        clock = _first_frame_time(container)  # where the next sample belongs; None until the first frame
        decoded = peak = 0.0
        not_finite = started = False
        for frame in _frames(container, stream, path, option):
            rate, layout = frame.sample_rate, frame.layout.name
            if not limits.min_sample_rate <= rate <= limits.max_sample_rate:
                raise UserError(
                    f"{option}: {path} has {rate} samples per second, not {limits.min_sample_rate} to "
                    f"{limits.max_sample_rate}; convert it, or change --min_sample_rate or --max_sample_rate"
                )
            samples = _float_samples(frame)
            decoded += samples.shape[1] / rate
            if not np.isfinite(samples).all():
                not_finite = True
                np.nan_to_num(samples, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
            peak = max(peak, float(np.abs(samples).max(initial=0)))
            if clock is None:
                clock = frame.time or 0.0
            offset = 0.0 if frame.time is None else frame.time - clock
            if abs(offset) > _MAX_HOLE_SECONDS:
                offset = 0.0
            if decoded + max(0.0, offset) > limits.max_seconds:
                raise UserError(
                    f"{option}: {path} holds more than {limits.max_seconds:g} s of audio; "
                    "cut it, or raise --max_seconds"
                )
            if not started and offset < 0:
                early = round(-offset * rate)
                if early >= samples.shape[1]:
                    continue
                samples = samples[:, early:]
            elif offset > (_MAX_DRIFT_SECONDS if started else 0):
                hole = round(offset * rate)
                for start in range(0, hole, rate):
                    yield AudioBlock(np.zeros((len(samples), min(rate, hole - start)), np.float32), rate, layout)
                decoded += offset if started else 0
                clock = frame.time
            started = True
            yield AudioBlock(samples, rate, layout)
            clock += samples.shape[1] / rate
        if not_finite:
            logger.warning(f"{option}: {path} has samples that are no numbers (NaN or infinite); they became zeros")
        if peak > 1 and stream.codec_context.codec.lossless:  # lossy decoders overshoot: nothing to report
            logger.warning(f"{option}: {path} is louder than full scale (peak {peak:.3g}); it was clipped")
        _check_complete(container, stream, decoded, path, option)


def _open_container(path: Path, option: str) -> "av.container.InputContainer":
    try:
        return open_input(path)
    except (OSError, av.error.FFmpegError) as error:
        raise UserError(
            f"{option}: {path} cannot be read as sound or video ({error.strerror}): it is another kind of file, holds "
            f"nothing or was cut off; give a wav, mp3, m4a, flac, ogg or mp4 file"
        ) from error


def _first_frame_time(container: "av.container.InputContainer") -> float | None:
    """Seconds on the container's clock; None for audio alone (a cover image is no video)."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic and stream.start_time is not None:
            return float(stream.start_time * stream.time_base)
    return None


def _frames(
    container: "av.container.InputContainer", stream: "av.AudioStream", path: Path, option: str
) -> Iterator["av.AudioFrame"]:
    """Yield decoded frames; packets that cannot be decoded are left out."""
    damaged = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            logger.warning(f"{option}: {path} cannot be read to its end ({error.strerror})")
            break
        if packet is None:
            break
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            damaged += 1
            continue
        yield from frames
    if damaged:
        logger.warning(f"{option}: {path} is damaged: {damaged} packets of sound could not be decoded")


def _wav_header_seconds(path: Path) -> float:
    """Length that the header of a RIFF WAV file states; 0 where it states none, as programs that write to a pipe do."""
    bytes_per_second = 0
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":
            return 0.0
        file.seek(12)
        while len(head := file.read(8)) == 8:
            name, size = head[:4], int.from_bytes(head[4:], "little")
            if name == b"data":
                known = 0 < size < _UNKNOWN_WAV_BYTES and bytes_per_second > 0
                return size / bytes_per_second if known else 0.0
            position = file.tell()
            if name == b"fmt ":
                bytes_per_second = int.from_bytes(file.read(12)[8:], "little")
            file.seek(position + size + size % 2)
    return 0.0


def _float_samples(frame: "av.AudioFrame") -> np.ndarray:
    """Float32 [channels, n] with full scale at 1, whatever the sample type."""
    if frame.format.is_planar and frame.layout.nb_channels >= 8:  # PyAV reads beyond the planes of such frames
        (frame,) = av.AudioResampler("flt", frame.layout, frame.sample_rate).resample(frame)
    data = frame.to_ndarray()
    if not frame.format.is_planar:
        data = data.reshape(-1, frame.layout.nb_channels).T
    if data.dtype == np.uint8:
        return (data.astype(np.float32) - 128) / 128
    scale = 1.0 if data.dtype.kind == "f" else -float(np.iinfo(data.dtype).min)
    with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite and is reported as such
        return data.astype(np.float32) / np.float32(scale)


def _check_complete(
    container: "av.container.InputContainer", stream: "av.AudioStream", decoded: float, path: Path, option: str
) -> None:
    """Raise UserError if a file has clearly less audio, `decoded` seconds, than it states."""
    if decoded == 0:
        return
    stated = float(stream.duration * stream.time_base) if stream.duration else 0.0
    if container.format.name == "wav":  # whose length ffmpeg takes from the size of the file
        stated = max(stated, _wav_header_seconds(path))
    if stated - decoded <= max(0.5, 0.05 * stated):
        return
    message = f"{option}: {path} says it holds {stated:.1f} s of sound, but only {decoded:.1f} s can be read"
    if container.format.name in _EXACT_LENGTH_FORMATS:
        raise UserError(f"{message}: the file was cut off or is damaged; copy or export it again")
    logger.warning(message)
