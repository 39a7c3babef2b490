"""The jobs of one video: pieces of its steps that run in the processes of the pool, many at the same time."""

import errno
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from typing import TypeVar

import cv2

from utils.errors import UserError
from utils.executors import WORKER_DIED

Result = TypeVar("Result")

Show = Callable[[str], None]
"""Shows a line of progress."""

_DISK_PROBLEMS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class AbortRunError(UserError):
    """An error that affects every video (missing model, full disk); stops the run."""


class Jobs:
    """Runs the jobs of one video. `seconds` is the work of all of them so far.

    Args:
        executor: the processes.
        name: of the video.
        show: receives a line of progress after every job of several.
    """

    def __init__(self, executor: Executor, name: str, show: Show | None = None):
        self._executor = executor
        self._name = name
        self._show = show
        self.step = ""
        self.seconds = 0.0

    def call(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Run one job and return its result; see run."""
        return self.run(function, [arguments])[0]

    def run(self, function: Callable[..., Result], jobs: Sequence[tuple]) -> list[Result]:
        """Return function(*job) of every job, in order. After an error no job is left running.

        Raises:
            AbortRunError: a process died, the disk is full; and whatever `function` raises.
        """
        # Not concurrent.futures.wait, which never returns for jobs that are cancelled when the processes are ended.
        ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
        futures: list[Future] = []
        left = 0
        try:
            for job in jobs:
                futures.append(self._executor.submit(_timed, function, job, self._name))
                futures[-1].add_done_callback(ended.put)
                left += 1
            for done in range(1, len(jobs) + 1):
                future = ended.get()
                left -= 1
                self.seconds += future.result()[1]
                if len(jobs) > 1 and self._show is not None:
                    self._show(f"{self._name}: {self.step}, part {done} of {len(jobs)}")
        except (BrokenExecutor, CancelledError):
            raise AbortRunError(WORKER_DIED) from None
        finally:
            for future in futures:
                future.cancel()
            for _ in range(left):
                ended.get()
        return [future.result()[0] for future in futures]


def _timed(function: Callable, job: tuple, name: str) -> tuple[object, float]:
    """Run a job: (its result, seconds). Errors are told apart here, as their causes do not reach another process."""
    cv2.setNumThreads(1)  # there is a process for every core
    begin = time.perf_counter()
    try:
        return function(*job), time.perf_counter() - begin
    except Exception as error:
        raise_disk_problem(error, name)
        raise


def raise_disk_problem(error: Exception, name: str) -> None:
    """Raise AbortRunError if an error, or what caused it, is a full or read-only disk; `name` is that of the video."""
    reason: BaseException | None = error
    while reason is not None:
        if getattr(reason, "errno", None) in _DISK_PROBLEMS:
            raise AbortRunError(f"{name}: {error}; correct this and run again: complete results are kept") from error
        reason = reason.__cause__
