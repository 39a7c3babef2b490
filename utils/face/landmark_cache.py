"""Detected landmarks, kept for later runs; and detected by another process while this one loads its libraries."""

import contextlib
import ctypes
import logging
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from utils.executors import end_children, start_worker, usable_cores
from utils.files import file_fingerprint
from utils.progress import Progress

Wait = Callable[[Progress], None]
"""Waits until the landmarks are detected, and shows how far that is."""

_POLL_SECONDS = 0.05


def landmark_cache(source: Path, landmark_dir: Path) -> Path:
    """Path of the detected landmarks of a video."""
    stem = source.stem.encode()[:150].decode(errors="ignore")  # file systems allow 255 bytes
    return landmark_dir / f"{stem}_{file_fingerprint(source)}.csv"


@contextlib.contextmanager
def landmarks_in_background(source: Path, landmark_dir: Path | None) -> Iterator[Wait]:
    """Detect the landmarks of a video into the cache while the block loads PyTorch, which takes as long.

    There is nothing to do where the landmarks are known, PyTorch is loaded, or there is one core. Errors are
    ignored: landmarks that are missing from the cache are detected again by analyze_video, which reports the error.

    Args:
        source: the video.
        landmark_dir: folder of the cache; None: there is none.
    """
    useful = landmark_dir is not None and usable_cores() > 1 and "torch" not in sys.modules
    if not useful or landmark_cache(source, landmark_dir).exists():
        yield lambda progress: None
        return
    context = multiprocessing.get_context("spawn")
    frames = context.RawValue("q", 0)  # one process writes it: no lock, which a killed process would leave behind
    process = context.Process(target=_detect, args=(source, landmark_dir, usable_cores(), frames))
    process.start()

    def wait(progress: Progress) -> None:
        while process.is_alive():
            process.join(_POLL_SECONDS)
            progress("landmarks", frames.value, 0)

    try:
        yield wait
    finally:
        end_children([process])


def _detect(source: Path, landmark_dir: Path, cores: int, frames: ctypes.c_longlong) -> None:
    start_worker()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # its own processes end with it
    logging.disable()  # the process that uses the landmarks reads the video again, and tells what is wrong with it
    from utils.face.analysis import cache_landmarks

    def show(_stage: str, done: int, _total: int) -> None:
        frames.value = done

    with contextlib.suppress(Exception):
        cache_landmarks(source, landmark_dir, show, cores)
