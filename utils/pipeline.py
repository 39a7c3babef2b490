"""Stages that overlap: each runs in a thread of its own, joined by bounded queues, in order."""

import contextlib
import ctypes
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_POLL_SECONDS = 0.1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h


@contextlib.contextmanager
def _closing(items: Iterable) -> Iterator[None]:
    """Close the generator `items` at the end, so that a chain of stages stops from its last to its first."""
    try:
        yield
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


@dataclass
class StageTimer:
    """Busy seconds per stage, by name; stages that overlap add up to more than the wall time."""

    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, stage: str, seconds: float) -> None:
        """Add `seconds` to the stage. Each stage is written by one thread only."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def timed(self, stage: str, items: Iterable[Item]) -> Iterator[Item]:
        """Yield from `items`, adding the time that each takes to arrive."""
        iterator = iter(items)
        with _closing(iterator):
            while True:
                start = time.perf_counter()
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                finally:
                    self.add(stage, time.perf_counter() - start)
                yield item

    def apply(self, stage: str, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield function(item) for each item, adding the time of the function alone."""
        with _closing(items):
            for item in items:
                start = time.perf_counter()
                result = function(item)
                self.add(stage, time.perf_counter() - start)
                yield result


@dataclass
class _End(Generic[Item]):
    error: BaseException | None = None


def in_background(items: Iterable[Item], size: int) -> Iterator[Item]:
    """Yield from `items` while a thread works ahead by up to `size` of them.

    An error in the thread is raised here, in its place in the order. Closing this generator (also by an error
    of whoever consumes it) stops the thread and waits for it.
    """
    ready: queue.Queue = queue.Queue(maxsize=size)
    stopped = threading.Event()

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=_POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            with _closing(items):
                for item in items:
                    if not put(item):
                        return
            put(_End())
        except BaseException as error:  # carried over to the consumer, whatever it is
            put(_End(error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        stopped.set()
        if thread is not threading.current_thread():  # the garbage collector may close this generator in any thread
            thread.join()


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of up to `size` items, in order."""
    batch: list[Item] = []
    with _closing(items):
        for item in items:
            batch.append(item)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch


def keep_freed_memory(max_block: int, max_total: int, one_heap: bool = False) -> None:
    """Have glibc's malloc keep freed blocks for the next arrays instead of returning them to the system.

    For work that makes new arrays for every frame: the system clears each page that it hands out again, which can cost
    as much as the arithmetic. Of several calls in a process the last one counts. Other C libraries: no effect.

    Args:
        max_block: largest block that is kept, in bytes.
        max_total: most memory that is kept free, in bytes.
        one_heap: use one heap for all threads. By default each thread has its own, and with one thread per stage these
            fragment.
    """
    if one_heap:
        _set_malloc(_M_ARENA_MAX, 1)
    _set_malloc(_M_MMAP_THRESHOLD, max_block)
    _set_malloc(_M_TRIM_THRESHOLD, max_total)


def return_freed_memory() -> None:
    """Have glibc's malloc return the freed pages between its blocks to the system. Other C libraries: no effect.

    Blocks of many sizes and threads fragment a heap: it grows although no more of it is used.
    """
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _set_malloc(parameter: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):  # other C libraries have no such setting
            ctypes.CDLL(None).mallopt(parameter, value)
