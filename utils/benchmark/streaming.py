"""Speed of live dubbing: the delay of frames when speech comes in real time, and the highest frame rate."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from utils.benchmark.settings import StreamBenchmark
from utils.dubbing import Dubber, LoadSettings, load_dubber
from utils.media.audio import SPEECH_RATE, load_waveform

BLOCK_SECONDS = 0.04


def stream(settings: StreamBenchmark) -> dict[str, object]:
    """Figures of the command `stream`: highest frame rate, and the delay of frames in real time.

    Raises:
        UserError: unusable weights, source or speech.
    """
    given = {"device": settings.device, "threads": settings.threads, "landmark_dir": None}
    dubber = load_dubber(LoadSettings(settings.pretrained_clip_DINet_path, **given))
    speech = load_waveform(settings.driving_audio_path, "--driving_audio_path").samples
    speech = np.resize(speech, round(settings.seconds * SPEECH_RATE))
    size = round(BLOCK_SECONDS * SPEECH_RATE)
    blocks = [speech[start : start + size] for start in range(0, len(speech), size)]
    dubber.prepare(settings.source_video_path)
    return {
        "device": str(dubber.generator.device),
        "threads": dubber.generator.threads,
        "mouth_region_size": dubber.generator.mouth_region_size,
        "block_seconds": BLOCK_SECONDS,
        "frames_per_second": _max_frame_rate(dubber, settings.source_video_path, blocks),
        **_delays(dubber, settings.source_video_path, blocks),
    }


def _max_frame_rate(dubber: Dubber, source: Path, blocks: list[np.ndarray]) -> float:
    """Frames per second after the first one, all speech being there from the start."""
    frames = dubber.stream(iter(blocks), source)
    next(frames)
    begin = time.perf_counter()
    count = sum(1 for _ in frames)
    return count / (time.perf_counter() - begin)


def _delays(dubber: Dubber, source: Path, blocks: list[np.ndarray]) -> dict[str, float]:
    """Seconds from the moment that a frame belongs to until it is there, the speech coming in real time."""
    start = 0.0

    def spoken() -> Iterator[np.ndarray]:
        nonlocal start
        start = time.perf_counter()  # the source is analyzed before the first block is taken
        for number, block in enumerate(blocks, 1):
            time.sleep(max(0.0, start + number * BLOCK_SECONDS - time.perf_counter()))
            yield block

    delays = [time.perf_counter() - start - frame.time for frame in dubber.stream(spoken(), source)]
    return {
        "delay_mean_seconds": float(np.mean(delays)),
        "delay_95_percent_seconds": float(np.percentile(delays, 95)),
        "delay_max_seconds": float(np.max(delays)),
    }
