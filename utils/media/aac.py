"""The audio of a file as the AAC track of an MP4."""

import math
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from itertools import chain, groupby
from pathlib import Path

import av
import numpy as np

from utils.errors import UserError
from utils.media.audio import audio_blocks

AAC_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_MAX_CHANNELS = 8


class AacTrack:
    """The audio track of an MP4 that is being written.

    Args:
        container: the MP4.
        path: any file with an audio track; that of a video from its first frame on.
        audio_format: see aac_format.
        duration: seconds after which the audio ends; None: all of it.
        option: command line option that `path` came from, for error messages.
    """

    def __init__(
        self,
        container: av.container.OutputContainer,
        path: Path,
        audio_format: tuple[int, str],
        duration: float | None,
        option: str,
    ):
        rate, layout = audio_format
        self._container = container
        self._stream = container.add_stream("aac", rate, layout=layout)
        self._stream.bit_rate = 96_000 * self._stream.codec_context.channels
        self._blocks: Iterator[av.AudioFrame] | None = _aac_blocks(
            _read_audio_frames(path, option), rate, layout, duration
        )
        self._end = Fraction(0)

    def write(self, until: Fraction | None) -> None:
        """Encode audio up to `until` seconds, or all there is, so that the two tracks stay interleaved."""
        while self._blocks is not None and (until is None or self._end < until):
            block = next(self._blocks, None)
            self._container.mux(self._stream.encode(block))
            if block is None:
                self._blocks = None
            else:
                self._end = Fraction(block.pts + block.samples, block.sample_rate)

    def close(self) -> None:
        """Close the audio file."""
        if self._blocks is not None:
            self._blocks.close()


def aac_format(path: Path, option: str) -> tuple[int, str]:
    """Return the (sample rate, layout) in which AAC keeps the audio of a file; its layout is mono or stereo.

    Raises:
        UserError: the file has no audio.
    """
    with closing(audio_blocks(path, option)) as blocks:
        first = next(blocks, None)
    if first is None:
        raise UserError(f"{option}: {path} holds no sound; give another file")
    # Players are sure of AAC up to 48 kHz; the encoder has no other rates than these.
    rate = first.rate if first.rate in AAC_RATES else 48_000
    return rate, "mono" if len(_mixable(first.samples)) == 1 else "stereo"


def _mixable(samples: np.ndarray) -> np.ndarray:
    """Float32 [channels, n]: as it is, or the mean of more channels than ffmpeg can mix to stereo."""
    return samples if len(samples) <= _MAX_CHANNELS else samples.mean(axis=0, keepdims=True)


def _read_audio_frames(path: Path, option: str) -> Iterator[av.AudioFrame]:
    """A file's audio, as the speech features have it: without holes, from the time of the first frame on."""
    for block in audio_blocks(path, option):
        # Packed, as PyAV cannot fill the planes of eight channels and more.
        mixed = _mixable(block.samples)
        samples = np.ascontiguousarray(mixed.T).reshape(1, -1)
        layout = block.layout if len(mixed) == len(block.samples) else "mono"
        frame = av.AudioFrame.from_ndarray(samples, "flt", layout)
        frame.sample_rate = block.rate
        yield frame


def _aac_blocks(
    frames: Iterator[av.AudioFrame], rate: int, layout: str, duration: float | None
) -> Iterator[av.AudioFrame]:
    """Cut audio into blocks of at most 1024 samples, gapless from 0 s, up to `duration` seconds."""
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
    """Convert audio, whose format may change midway, to one rate and layout, without time stamps."""
    for _, same in groupby(frames, key=lambda frame: (frame.format.name, frame.layout.name, frame.sample_rate)):
        resampler = av.AudioResampler("fltp", layout, rate)
        for frame in chain(same, [None]):
            for piece in resampler.resample(frame):
                if piece is not None:  # what a resampler with nothing to do makes of the end
                    piece.pts = None  # those of a cut or damaged file have gaps
                    yield piece
