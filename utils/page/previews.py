"""The source as browsers can play it: phones and cameras write much that browsers do not show."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from utils.dubbing.run import ping_pong
from utils.media.container import open_input
from utils.media.video_reader import VideoReader
from utils.media.video_writer import EncoderSettings, VideoWriter
from utils.media.yuv import planes
from utils.progress import Progress

PREVIEW_HEIGHT = 480
"""Pixels; the page shows videos at most 340 high, on screens of up to twice as many pixels."""


def plays_everywhere(path: Path) -> bool:
    """Whether every browser plays a video file, and finds its length: H.264 of 8 bits and 4:2:0 in MP4."""
    if path.suffix.lower() not in (".mp4", ".m4v"):
        return False
    try:
        with open_input(path) as container:
            context = container.streams.video[0].codec_context
            return context.name == "h264" and context.pix_fmt in ("yuv420p", "yuvj420p")
    except (OSError, IndexError, av.FFmpegError):
        return False


def write_preview(reader: VideoReader, path: Path, rate: Fraction, count: int, progress: Progress) -> None:
    """Write the source frame of every frame of a result, small, without sound.

    Args:
        reader: of the source.
        path: the MP4 to write.
        rate: frames per second of the result.
        count: frames of the result.
        progress: called with every frame.

    Raises:
        UserError: the file cannot be written.
    """
    info = reader.info
    scale = min(1.0, PREVIEW_HEIGHT / info.height)
    width, height = (max(2, 2 * round(size * scale / 2)) for size in (info.width, info.height))
    timeline = reader.timeline(rate)
    order = (int(timeline[position]) for position in ping_pong(count, len(timeline)))
    encoder = EncoderSettings(crf=26, preset="veryfast")
    with VideoWriter(path, width, height, rate, info.colour, info.sample_aspect_ratio, encoder) as video:
        for done, frame in enumerate(reader.play(order), start=1):
            video.write(_resized(frame.yuv, width, height))
            progress("preview", done, count)


def _resized(yuv: np.ndarray, width: int, height: int) -> np.ndarray:
    """An I420 frame at another size, both even."""
    luma, *chroma = planes(yuv)
    small = [cv2.resize(luma, (width, height), interpolation=cv2.INTER_AREA)]
    small += [cv2.resize(plane, (width // 2, height // 2), interpolation=cv2.INTER_AREA) for plane in chroma]
    return np.concatenate([plane.ravel() for plane in small]).reshape(height * 3 // 2, width)
