"""Live dubbing: audio in blocks as they come, frames out with a bounded delay."""

import contextlib
import itertools
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from utils.dubbing.engine import Dubber
from utils.dubbing.run import DubRun, OutputFrame, Speech
from utils.dubbing.settings import EXAMPLE_AUDIO, SHIPPED_MEL_WEIGHTS, DubbingJob, DubbingOptions
from utils.errors import UserError, blame
from utils.media.audio import load_waveform
from utils.media.yuv import Colour, rgb_patch
from utils.pipeline import StageTimer
from utils.speech.mel import mel_level
from utils.speech.mel_stream import LOOK_AHEAD, MelStream

MAX_DELAY = 0.4
"""Maximum seconds of speech after a frame's time that are waited for."""


@dataclass(frozen=True)
class StreamedFrame:
    """A dubbed frame: `time` in seconds from the first sample, `yuv` uint8 [H * 3 // 2, W] (I420, limited range)."""

    time: float
    yuv: np.ndarray
    colour: Colour

    @property
    def rgb(self) -> np.ndarray:
        """The frame as RGB, uint8 [H, W, 3]."""
        height, width = self.yuv.shape[0] * 2 // 3, self.yuv.shape[1]
        return rgb_patch(self.yuv, 0, height, 0, width, self.colour)


def stream(
    dubber: Dubber,
    audio_blocks: Iterable[np.ndarray],
    source: Path,
    speech_sample: Path | None,
    options: DubbingOptions,
) -> Iterator[StreamedFrame]:
    """Yield dubbed frames while the audio is coming.

    A frame is computed as soon as there are 0.136 s of audio after its time; frames that are computed together wait
    for each other, MAX_DELAY at most altogether. The source is analyzed before the first block is taken: call
    `next` early, or `Dubber.prepare` beforehand.

    Args:
        dubber: with weights for mel features; serves nothing else meanwhile.
        audio_blocks: audio, float [n] in [-1, 1], mono at 16 kHz, in blocks of any size (40 ms are 640 samples); is
            read in a thread of its own, and has to end or to go on when the frames are no longer wanted.
        source: video or still image of the face; it is played forward and backward.
        speech_sample: recording of this voice and microphone, whose level then counts for the whole stream. With None
            the level is that of the speech so far: the first second of it may move the mouth too much. The blending
            "face" tries the network on the sample, else on the example.
        options: how to dub. Encoding does not matter, nor does `silence`: whether a pause becomes long is known too
            late. `batch_size` None: as many frames as threads compute.

    Raises:
        UserError: unusable source or sample; weights for other features.
    """
    sample = dubber.read_speech(speech_sample or EXAMPLE_AUDIO)
    if sample.features.kind.name != MelStream.kind.name:
        raise UserError(
            f"{sample.features.kind.name} features need the whole recording; live dubbing takes weights for mel "
            f"features, such as {SHIPPED_MEL_WEIGHTS}"
        )
    level = None
    if speech_sample is not None:
        with blame("speech_sample"):
            level = mel_level(load_waveform(speech_sample, "speech_sample"))
    analyzed, _ = dubber.prepare(source, None, options)
    rate = options.fps or analyzed.reader.info.rate
    together = options.batch_size or getattr(dubber.generator, "threads", 1)
    together = max(1, min(together, 1 + int((MAX_DELAY - LOOK_AHEAD) * rate)))
    options = replace(options, batch_size=together, silence="keep")
    run = DubRun(DubbingJob(source, sample.path, source), options, analyzed, sample, dubber.generator, StageTimer())
    run.prepare_blending()
    features = MelStream(level)
    run.speech = Speech(features, 0.0, sample.path)
    closed = threading.Event()

    def frames() -> Iterator[OutputFrame]:
        numbers = _ready_frames(itertools.takewhile(lambda _: not closed.is_set(), audio_blocks), features, rate)
        with contextlib.closing(run.play(sys.maxsize)) as played:
            # The number first: only then is there a frame to decode.
            for number, frame in zip(numbers, played, strict=False):
                yield OutputFrame(float(number / rate), frame)

    batches = run.process(frames())
    try:
        for batch in batches:
            for frame in batch:
                yield StreamedFrame(frame.time, frame.yuv, analyzed.reader.info.colour)
    finally:
        closed.set()
        batches.close()


def _ready_frames(audio_blocks: Iterable[np.ndarray], features: MelStream, rate: float) -> Iterator[int]:
    """Read the audio; yield the number of each frame as soon as its speech features can be computed."""
    number = 0
    for block in audio_blocks:
        features.push(block)
        while features.is_ready(float(number / rate)):
            yield number
            number += 1
    features.finish()
    yield from range(number, max(1, round(features.duration * rate)) if features.duration else 0)
