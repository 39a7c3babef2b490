"""Videos made from videos: resampled to the rate of training, or cut into parts."""

import os
import shutil
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from utils.data_processing.settings import TRAINING_RATE
from utils.errors import UserError
from utils.media.audio import Waveform, load_waveform, write_wav
from utils.media.video_reader import VideoReader
from utils.media.video_writer import EncoderSettings, VideoWriter

SOUND_RATE = 48000
"""Hz of the sound in videos made here: nothing that can be heard is lost."""
PRESET = "veryfast"
"""Of the encoder: at a given quality, slower ones save disk space and nothing else."""

_OPTION = "--source_video_dir"


@dataclass(frozen=True)
class Span:
    """Part of a video from `start` to `end` in seconds; None is the end of the video."""

    start: float = 0.0
    end: float | None = None


WHOLE = Span()


def open_training_video(path: Path) -> VideoReader:
    """Open a video that is to be at 25 fps.

    Raises:
        UserError: unreadable, a still picture, or of another rate.
    """
    reader = VideoReader(path, _OPTION)
    if reader.info.is_still:
        raise UserError(f"{_OPTION}: {path} is a picture; training needs videos")
    if reader.info.rate != TRAINING_RATE:
        raise UserError(
            f"{_OPTION}: {path} has {float(reader.info.rate):.5g} frames a second, 25 are needed; "
            "run --resample_video on it"
        )
    return reader


def check_even(reader: VideoReader) -> None:
    """Raise UserError where frames do not come at an even 25 fps. Free after a full pass over the frames."""
    if not _is_even(reader):
        raise UserError(
            f"{_OPTION}: the frames of {reader.info.path} do not come at an even 25 a second; "
            "run --resample_video on it"
        )


def _is_even(reader: VideoReader) -> bool:
    ticks = reader.timeline(TRAINING_RATE)
    return np.array_equal(ticks, np.arange(len(reader.times)))


def resample_video(source: Path, target: Path, crf: int) -> dict:
    """Write a video at 25 fps, by time, with its own sound; an MP4 that is at 25 fps already is linked or copied."""
    reader = VideoReader(source, _OPTION)
    if reader.info.is_still:
        raise UserError(f"{_OPTION}: {source} is a picture; training needs videos")
    if source.suffix.lower() == ".mp4" and reader.info.rate == TRAINING_RATE and _is_even(reader):
        link_or_copy(source, target)
    else:
        write_span(reader, WHOLE, target, TRAINING_RATE, load_sound(reader), crf)
    return {"frames": len(reader.timeline(TRAINING_RATE))}


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name; a copy where the file system cannot do that."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def load_sound(reader: VideoReader) -> Waveform | None:
    """Sound of a video, from the moment of its first picture on; None if it has none."""
    return load_waveform(reader.info.path, _OPTION, SOUND_RATE) if reader.info.has_audio else None


def write_span(reader: VideoReader, span: Span, target: Path, rate: Fraction, sound: Waveform | None, crf: int) -> int:
    """Write part of a video, to the frame, at a constant rate, with the sound that belongs to it.

    Args:
        reader: the whole video.
        span: which part.
        target: the MP4 to write; a temporary wav is written beside it.
        rate: frames a second of the result.
        sound: sound of the whole video, sample 0 at the first picture.
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
            f"{_OPTION}: {reader.info.path} ends after {float(len(ticks) / rate):.1f} s, "
            f"before the part from {span.start:g} s on; check its annotation"
        )
    wav = None
    if sound is not None:
        begin, end = (round(tick / rate * sound.rate) for tick in (first, last))
        if len(samples := sound.samples[begin:end]):
            wav = target.with_suffix(".wav")
            write_wav(wav, Waveform(samples, sound.rate))
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
