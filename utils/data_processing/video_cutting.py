"""Videos made from videos: resampled to the rate of training, or cut into parts."""

import logging
import operator
import os
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np

from utils.data_processing.cached_results import StepResult
from utils.data_processing.settings import TRAINING_RATE, WHOLE_VIDEO, TimeSpan
from utils.errors import UserError
from utils.executors import RunJobs, run_here
from utils.media.audio import Waveform, load_waveform, write_wav
from utils.media.video_joining import UnlikePartsError, join_videos
from utils.media.video_parts import PartError, Seam, VideoParts, check_seams, find_parts, read_frames
from utils.media.video_reader import VideoReader
from utils.media.video_writer import EncoderSettings, VideoWriter

logger = logging.getLogger(__name__)


AUDIO_RATE = 48000
"""Sampling rate in Hz of the audio in videos made here, enough for all that is audible."""
PRESET = "superfast"
"""Encoder preset. Slower ones only save disk space: at one CRF and 720p, veryfast takes 1.5 times as long, has half the
size and 2 dB less PSNR. As the other steps read these files, they are encoded for fast decoding: 1.6 instead of 3.7 ms
per frame, for 9 % more space."""
MIN_PIECE_FRAMES = 50
"""Minimum length of an encoded piece: each begins with a key frame, which takes space."""
MIN_PIECES = 16
"""If a video has fewer pieces, the long ones are halved, so that no process waits long for the last one of another. A
second half also decodes the first, which takes a tenth of the time of encoding it."""


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
    if not _is_even(reader.timeline(TRAINING_RATE), len(reader.times)):
        raise _uneven_error(reader.info.path)


def open_parts(video: Path) -> VideoParts | None:
    """The parts of a training video, or None where one process is to read it.

    Raises:
        UserError: unreadable, a still image, of another rate, or unevenly spaced.
    """
    parts = find_parts(open_training_video(video))
    if parts is not None and not _is_even(parts.timeline(TRAINING_RATE), len(parts.pts)):
        raise _uneven_error(video)
    return parts


def _is_even(ticks: np.ndarray, frame_count: int) -> bool:
    """Whether a video's timeline at 25 fps, int [M], shows each of its frames once."""
    return np.array_equal(ticks, np.arange(frame_count))


def _uneven_error(video: Path) -> UserError:
    """What to say of a video whose frames are not evenly spaced."""
    return UserError(f"the frames of {video} are not evenly spaced at 25 per second; run --resample_video on it")


def resample_video(source: Path, target: Path, crf: int, run: RunJobs = run_here) -> StepResult:
    """Resample a video to 25 fps by time, with its own audio; an MP4 at 25 fps is linked or copied.

    Args:
        source: the video.
        target: the MP4 to write; temporary files are written beside it.
        crf: H.264 quality.
        run: runs the jobs; the file does not depend on where they run.
    """
    (frames,) = run(_link_if_ready, [(source, target)])
    if frames is None:
        frames = cut_video(source, WHOLE_VIDEO, target, TRAINING_RATE, crf, run)
    return StepResult(frames)


def _link_if_ready(source: Path, target: Path) -> int | None:
    """Link or copy a video that is an MP4 at 25 fps; returns its frames, or None if it has to be resampled."""
    reader = VideoReader(source)
    if reader.info.is_still:
        raise UserError(f"{source} is a still image; training needs videos")
    if (
        source.suffix.lower() != ".mp4"
        or reader.info.rate != TRAINING_RATE
        or not _is_even(reader.timeline(TRAINING_RATE), len(reader.times))
    ):
        return None
    link_or_copy(source, target)
    return len(reader.times)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name (hard link), or copy it if the file system has no links."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def cut_video(
    video: Path, span: TimeSpan, target: Path, rate: Fraction | None, crf: int, run: RunJobs = run_here
) -> int:
    """Write part of a video, exact to the frame, at a constant rate, with its audio.

    A long video is encoded in parts that several processes make at the same time. The parts depend on the video alone,
    and so does the file.

    Args:
        video: the whole video.
        span: which part of it.
        target: the MP4 to write; temporary files are written beside it.
        rate: frames per second of the result; None: that of the video.
        crf: H.264 quality.
        run: runs the jobs.

    Returns:
        The number of frames.

    Raises:
        UserError: unreadable video; the span starts after its end.
    """
    (parts,) = run(_parts_of, [(video,)])
    if parts is not None:
        try:
            return _write_in_parts(parts, span, target, rate or parts.reader.info.rate, crf, run)
        except (PartError, UnlikePartsError):
            logger.info(f"{video}: cannot be read in parts, so one process reads all of it")
    (count,) = run(_write_whole, [(video, span, target, rate, crf)])
    return count


def _parts_of(video: Path) -> VideoParts | None:
    return find_parts(VideoReader(video))


def _write_whole(video: Path, span: TimeSpan, target: Path, rate: Fraction | None, crf: int) -> int:
    reader = VideoReader(video)
    rate = rate or reader.info.rate
    ticks = reader.timeline(rate)
    first, last = _ticks_of(span, ticks, rate, video)
    sound = _write_sound(reader, first / rate, last / rate, target.with_suffix(".wav"))
    with _writer(target, reader, rate, crf, sound, float((last - first) / rate)) as writer:
        for frame in reader.play(ticks[first:last]):
            writer.write(frame.yuv)
    if sound is not None:
        sound.unlink()
    return last - first


def _write_in_parts(parts: VideoParts, span: TimeSpan, target: Path, rate: Fraction, crf: int, run: RunJobs) -> int:
    """See cut_video.

    Raises:
        PartError, UnlikePartsError: it cannot be made so.
    """
    ticks = parts.timeline(rate)
    first, last = _ticks_of(span, ticks, rate, parts.reader.info.path)
    pieces = _pieces(ticks[first:last], parts)
    folder = target.parent / "pieces"
    paths = [folder / f"{number}.mp4" for number in range(len(pieces))]
    write_pieces = [(_write_piece, parts, *piece, path, rate, crf) for piece, path in zip(pieces, paths, strict=True)]
    begin, end = first / rate, last / rate
    folder.mkdir(exist_ok=True)
    try:
        sound, *seams = run(
            operator.call, [(_write_sound, parts.reader, begin, end, folder / "sound.wav"), *write_pieces]
        )
        check_seams(seams)
        counts = [len(order) for _, _, order in pieces]
        run(join_videos, [(paths, counts, target, rate, sound, float(end - begin))])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return last - first


def _pieces(order: np.ndarray, parts: VideoParts) -> list[tuple[int, int, np.ndarray]]:
    """Cut the frames to play, int [M], rising, where parts begin.

    Returns:
        (first frame, one past the last frame to read, frames to play) of each piece; a piece reads the first frame of
        the next one, too, so that the two can be compared.
    """
    pieces: list[tuple[int, int, np.ndarray]] = []
    for start, end in parts.bounds:
        mine = order[(order >= start) & (order < end)]
        if pieces and min(len(mine), len(pieces[-1][2])) < MIN_PIECE_FRAMES:
            pieces[-1] = pieces[-1][0], end + 1, np.concatenate([pieces[-1][2], mine])
        elif len(mine):
            pieces.append((start, end + 1, mine))
    start, _, mine = pieces[-1]
    pieces[-1] = start, int(mine[-1]) + 1, mine
    if len(pieces) >= MIN_PIECES:
        return pieces
    return [half for piece in pieces for half in _halves(*piece)]


def _halves(start: int, end: int, order: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    """A piece as two, if it is long enough."""
    if len(order) < 2 * MIN_PIECE_FRAMES:
        return [(start, end, order)]
    middle = int(order[len(order) // 2])
    before = order < middle
    if not before.any():  # one frame, shown for a long time
        return [(start, end, order)]
    return [(start, middle + 1, order[before]), (middle, end, order[~before])]


def _write_piece(
    parts: VideoParts, start: int, end: int, order: np.ndarray, path: Path, rate: Fraction, crf: int
) -> Seam:
    """Encode frames of a part, without sound; returns the checksums for the neighbours."""
    seam = Seam()
    times_shown = np.bincount(order - start, minlength=end - start)
    with _writer(path, parts.reader, rate, crf) as writer:
        for frame in read_frames(parts, start, end, seam):
            for _ in range(times_shown[frame.index - start]):
                writer.write(frame.yuv)
    return seam


def _ticks_of(span: TimeSpan, ticks: np.ndarray, rate: Fraction, video: Path) -> tuple[int, int]:
    """First tick of a span, and one past its last.

    Raises:
        UserError: the span starts after the end of the video.
    """
    first = round(span.start * rate)
    last = len(ticks) if span.end is None else min(round(span.end * rate), len(ticks))
    if first >= last:
        raise UserError(
            f"{video} ends after {float(len(ticks) / rate):.1f} s, "
            f"before the part from {span.start:g} s on; check its annotation"
        )
    return first, last


def _write_sound(reader: VideoReader, begin: Fraction, end: Fraction, path: Path) -> Path | None:
    """Write the audio from `begin` to `end` seconds; returns its file, or None if there is none."""
    if not reader.info.has_audio:
        return None
    audio = load_waveform(reader.info.path, "--source_video_dir", AUDIO_RATE)
    samples = audio.samples[round(begin * audio.rate) : round(end * audio.rate)]
    if not len(samples):
        return None
    write_wav(path, Waveform(samples, audio.rate))
    return path


def _writer(
    path: Path,
    reader: VideoReader,
    rate: Fraction,
    crf: int,
    sound: Path | None = None,
    duration: float | None = None,
) -> VideoWriter:
    info = reader.info
    return VideoWriter(
        path,
        info.width,
        info.height,
        rate,
        info.colour,
        info.sample_aspect_ratio,
        # One thread: there is a process for every core, and the file is the same on any number of cores.
        encoder=EncoderSettings(crf=crf, preset=PRESET, threads=1, fast_decode=True),
        audio_path=sound,
        duration=duration,
    )
