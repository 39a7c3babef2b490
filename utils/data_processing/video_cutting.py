"""Videos made from videos: resampled to the rate of training, or cut into parts."""

import os
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np

from utils.data_processing.cached_results import StepResult
from utils.data_processing.settings import TRAINING_RATE, WHOLE_VIDEO, TimeSpan
from utils.errors import UserError
from utils.media.audio import Waveform, load_waveform, write_wav
from utils.media.video_reader import VideoReader
from utils.media.video_writer import EncoderSettings, VideoWriter

AUDIO_RATE = 48000
"""Sampling rate in Hz of the audio in videos made here, enough for all that is audible."""
PRESET = "veryfast"
"""Encoder preset; at a given quality, slower ones only save disk space."""


def open_training_video(path: Path) -> VideoReader:
    """Open a video that must be at 25 fps.

    Raises:
        UserError: unreadable, a still image, or of another rate.
    """
    reader = VideoReader(path)
    if reader.info.is_still:
        raise UserError(f"{path} is a still image; training needs videos")
    if reader.info.rate != TRAINING_RATE:
        raise UserError(
            f"{path} has {float(reader.info.rate):.5g} frames per second, 25 are needed; run --resample_video on it"
        )
    return reader


def check_even(reader: VideoReader) -> None:
    """Raise UserError if the frames are not evenly spaced at 25 fps. Costs nothing after a pass over the frames."""
    if not _is_even(reader):
        raise UserError(
            f"the frames of {reader.info.path} are not evenly spaced at 25 per second; run --resample_video on it"
        )


def _is_even(reader: VideoReader) -> bool:
    ticks = reader.timeline(TRAINING_RATE)
    return np.array_equal(ticks, np.arange(len(reader.times)))


def resample_video(source: Path, target: Path, crf: int) -> StepResult:
    """Resample a video to 25 fps by time, with its own audio; an MP4 at 25 fps is linked or copied."""
    reader = VideoReader(source)
    if reader.info.is_still:
        raise UserError(f"{source} is a still image; training needs videos")
    if source.suffix.lower() == ".mp4" and reader.info.rate == TRAINING_RATE and _is_even(reader):
        link_or_copy(source, target)
    else:
        write_span(reader, WHOLE_VIDEO, target, TRAINING_RATE, load_audio(reader), crf)
    return StepResult(len(reader.timeline(TRAINING_RATE)))


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name (hard link), or copy it if the file system has no links."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def load_audio(reader: VideoReader) -> Waveform | None:
    """Audio of a video, from its first frame on; None if it has none."""
    return load_waveform(reader.info.path, "--source_video_dir", AUDIO_RATE) if reader.info.has_audio else None


def write_span(
    reader: VideoReader, span: TimeSpan, target: Path, rate: Fraction, audio: Waveform | None, crf: int
) -> int:
    """Write part of a video, exact to the frame, at a constant rate, with its audio.

    Args:
        reader: the whole video.
        span: which part.
        target: the MP4 to write; a temporary wav is written beside it.
        rate: frames per second of the result.
        audio: audio of the whole video, sample 0 at the first frame.
        crf: H.264 quality.

    Returns:
        The number of frames.

    Raises:
        UserError: the span starts after the end of the video.
    """
    ticks = reader.timeline(rate)
    first = round(span.start * rate)
    last = len(ticks) if span.end is None else min(round(span.end * rate), len(ticks))
    if first >= last:
        raise UserError(
            f"{reader.info.path} ends after {float(len(ticks) / rate):.1f} s, "
            f"before the part from {span.start:g} s on; check its annotation"
        )
    wav = None
    if audio is not None:
        begin, end = (round(tick / rate * audio.rate) for tick in (first, last))
        if len(samples := audio.samples[begin:end]):
            wav = target.with_suffix(".wav")
            write_wav(wav, Waveform(samples, audio.rate))
    info = reader.info
    with VideoWriter(
        target,
        info.width,
        info.height,
        rate,
        info.colour,
        info.sample_aspect_ratio,
        # One thread: there is a process for every core, and the file is the same on any number of cores.
        encoder=EncoderSettings(crf=crf, preset=PRESET, threads=1),
        audio_path=wav,
        duration=float((last - first) / rate),
    ) as writer:
        for frame in reader.play(ticks[first:last]):
            writer.write(frame.yuv)
    if wav is not None:
        wav.unlink()
    return last - first
