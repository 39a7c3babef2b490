"""Process pools behind one interface (concurrent.futures): the cores of this machine, or a Dask cluster."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol, TypeVar

from utils.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")

WORKER_DIED = (
    "a worker process died, probably because memory ran out; run again with fewer --workers: complete results are kept"
)

_CONNECT_SECONDS = 15


class RunJobs(Protocol):
    """Runs one function on many jobs, perhaps at the same time in other processes."""

    def __call__(self, function: Callable[..., Result], jobs: Sequence[tuple]) -> list[Result]:
        """Return function(*job) of every job, in order."""


def run_here(function: Callable[..., Result], jobs: Sequence[tuple]) -> list[Result]:
    """RunJobs in this very process, one after the other."""
    return [function(*job) for job in jobs]


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def local_executor(workers: int) -> Iterator[Executor]:
    """A pool of processes that die with this one, also if it is killed."""
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=start_worker)
    # Start all processes now: Python before 3.12.1 prints a traceback if one dies while another is being started.
    with _ctrl_c_blocked():
        for _ in range(workers):
            executor.submit(os.getpid)
    try:
        yield executor
    except BaseException:
        # On error: cancel pending jobs and kill the workers.
        executor.shutdown(wait=False, cancel_futures=True)
        end_children(multiprocessing.active_children())
        raise
    executor.shutdown()


@contextlib.contextmanager
def dask_executor(address: str, option: str = "--dask_scheduler") -> Iterator[Executor]:
    """The workers of an existing Dask cluster, which is left running.

    Raises:
        UserError: distributed is not installed, no scheduler answers at `address`, or the workers lack the project.
    """
    try:
        from distributed import Client
    except ImportError:
        raise UserError(f"{option}: needs the package distributed; pip install distributed") from None
    try:
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{option}: no Dask scheduler answers at {address} ({type(error).__name__}); "
            "give the address that `dask scheduler` prints, such as tcp://host:8786"
        ) from None
    with client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise UserError(f"{option}: the scheduler at {address} has no workers; start some with `dask worker`")
        executor = client.get_executor(pure=False)
        try:
            yield executor
        except ModuleNotFoundError as error:
            executor.shutdown(wait=False)
            raise UserError(
                f"{option}: the workers cannot import the project ({error}); "
                "start them in its folder with PYTHONPATH=. dask worker ADDRESS --nthreads 1"
            ) from error
        except BaseException:
            executor.shutdown(wait=False)
            raise


def run_all(executor: Executor, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """Yield function(job) for every job, in the order in which they finish.

    Raises:
        UserError: a worker process died; and whatever `function` raises.
    """
    futures = [executor.submit(function, job) for job in jobs]
    try:
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool:
        raise UserError(WORKER_DIED) from None
    finally:
        for future in futures:
            future.cancel()


@contextlib.contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Processes started here never see Ctrl-C, not even before start_worker; this one sees it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_children(processes: Iterable[multiprocessing.Process]) -> None:
    """End processes started here, and with them those that they have started."""
    for process in processes:
        process.terminate()


def start_worker() -> None:
    """Set up a process started here, before it loads NumPy."""
    for library in ("OMP", "OPENBLAS", "MKL"):  # one thread each, as in Dask: sums are then equal to the last bit
        os.environ[f"{library}_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends its workers
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
