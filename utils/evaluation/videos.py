"""The videos of an evaluation, each analysed once."""

from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from utils.errors import UserError
from utils.executors import local_executor, run_all, usable_cores
from utils.face.analysis import AnalyzedVideo, analyze_video
from utils.face.landmark_cache import landmark_cache
from utils.pipeline import StageTimer


class VideoStore:
    """Analyses videos and keeps the results: frame times, scene cuts, landmarks and crops, not the frames.

    Args:
        landmark_dir: where detected landmarks are kept and found again; None keeps none.
        timer: receives the busy seconds of what is done in this process.
    """

    def __init__(self, landmark_dir: Path | None, timer: StageTimer):
        self._landmark_dir = landmark_dir
        self._timer = timer
        self._results: dict[Path, AnalyzedVideo | UserError] = {}

    def analyze(self, paths: Iterable[Path], workers: int | None = None) -> None:
        """Analyse videos whose landmarks must be detected, several at a time, in processes: dlib holds Python's lock.

        The others are analysed when they are asked for, which is quick.

        Args:
            paths: videos.
            workers: processes; None: one per core.
        """
        jobs = [(path, self._landmark_dir) for path in dict.fromkeys(paths) if not self._is_cached(path)]
        if len(jobs) < 2:  # a process would cost more than it saves
            return
        with local_executor(min(len(jobs), workers or usable_cores())) as executor:
            results = run_all(executor, _analyze, jobs)
            for path, result in tqdm(results, desc="landmarks", total=len(jobs), unit="video", disable=None):
                self._results[path] = result

    def get(self, path: Path) -> AnalyzedVideo:
        """A video's analysis.

        Raises:
            UserError: it cannot be read.
            NoFaceError: it has no usable face.
        """
        if path not in self._results:
            self._results[path] = _analyze((path, self._landmark_dir), self._timer)[1]
        result = self._results[path]
        if isinstance(result, UserError):
            raise result
        return result

    def _is_cached(self, path: Path) -> bool:
        if path in self._results:
            return True
        return self._landmark_dir is not None and path.exists() and landmark_cache(path, self._landmark_dir).exists()


def _analyze(job: tuple[Path, Path | None], timer: StageTimer | None = None) -> tuple[Path, AnalyzedVideo | UserError]:
    path, landmark_dir = job
    try:
        return path, analyze_video(path, landmark_dir=landmark_dir, timer=timer)
    except UserError as error:
        return path, error
