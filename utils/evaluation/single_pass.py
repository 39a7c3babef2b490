"""One pass over a video's frames for all metrics that need them."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from utils.media.video_reader import Frame, VideoReader


class FrameMetric(Protocol):
    """A metric that takes frames one by one."""

    order: np.ndarray
    """Numbers of the frames that it needs, int [N], in rising order; a frame may occur several times."""

    def add(self, tick: int, frame: Frame) -> None:
        """Take frame number `order[tick]`; ticks come in order."""


def play_once(reader: VideoReader, order: np.ndarray, metrics: Sequence[FrameMetric]) -> Iterator[tuple[int, Frame]]:
    """Yield (tick, frame) for the frames of `order`, and pass `metrics` theirs; each frame is decoded once.

    The metrics have all their frames only after the end of the iterator.

    Args:
        reader: the video.
        order: frame numbers, int [N], in rising order, also repeated.
        metrics: see FrameMetric.
    """
    consumed = np.zeros(len(metrics), int)
    tick = 0
    for frame in reader.play(np.unique(np.concatenate([order, *(metric.order for metric in metrics)]))):
        for number, metric in enumerate(metrics):
            while consumed[number] < len(metric.order) and metric.order[consumed[number]] == frame.index:
                metric.add(int(consumed[number]), frame)
                consumed[number] += 1
        while tick < len(order) and order[tick] == frame.index:
            yield tick, frame
            tick += 1
