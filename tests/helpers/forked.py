"""Run the real scripts in forked children, under limits: seconds less per run than a new interpreter takes."""

import contextlib
import ctypes
import importlib
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SCRIPTS = (
    "inference",
    "data_processing",
    "train_syncnet",
    "train_DINet_frame",
    "train_DINet_clip",
    "train_audio_encoder",
    "train_mouth_reader",
    "evaluate",
    "benchmark",
    "app",
    "export_weights",
)
_PRELOADED = (
    *SCRIPTS,
    "torch",
    "av",
    "cv2",
    "dlib",
    "utils.dubbing",
    "utils.dubbing.engine",
    "utils.dubbing.load",
    "utils.face.tracker",
    "utils.speech.extractor",
    "dataset.loading",
    "utils.training.trainer",
    "utils.evaluation.evaluator",
)
GROUP_SECONDS = 8
"""Time in which the children of a script that has ended are to end."""


@dataclass(frozen=True)
class Ended:
    """How a script ended: its exit status (negative: the signal), its standard error, its time and memory."""

    status: int
    errors: str
    seconds: float
    peak_bytes: int
    out_of_time: bool
    left_running: list[str]
    """Commands of processes that it has started and that did not end with it."""


@dataclass(frozen=True)
class Fault:
    """What happens to a script while it works.

    Args:
        signal_number: sent to it.
        signal_seconds: after which that is.
        signal_text: sent only when this stands in its standard error.
        alone: sent to itself only, as `kill` does; else to its children too, as Ctrl-C is.
        file_bytes: largest file that it may write.
        obey_permissions: root too may not write where permissions say so.
        clock_back: seconds by which the clock is set back after a moment.
    """

    signal_number: int | None = None
    signal_seconds: float = 0
    signal_text: str = ""
    alone: bool = False
    file_bytes: int | None = None
    obey_permissions: bool = False
    clock_back: float = 0


def preload() -> None:
    """Import what the scripts import, once, for all children.

    Nothing is computed here: threads do not survive a fork.
    """
    for name in _PRELOADED:
        importlib.import_module(name)


class Running:
    """A script that runs in a forked child.

    Args:
        script: name without .py.
        arguments: of the script; bytes are names that need not be UTF-8.
        folder: where it runs.
        seconds: after which it is killed.
        more_bytes: of memory that it may take beyond that of this process.
        fault: what happens to it.
    """

    def __init__(
        self,
        script: str,
        arguments: Sequence[str | bytes],
        folder: Path,
        seconds: float = 60,
        more_bytes: int = 3 << 30,
        fault: Fault = Fault(),
    ):
        descriptor, name = tempfile.mkstemp(prefix="dinet-stderr-")
        os.close(descriptor)
        self._log, self._seconds, self._fault = Path(name), seconds, fault
        self._signalled = fault.signal_number is None
        self._start = time.monotonic()
        self._child = os.fork()
        if self._child == 0:
            _become(script, arguments, folder, self._log, more_bytes, fault)

    def wait(self) -> Ended:
        """Wait for its end, and do to it what is to happen."""
        late = False
        while True:
            done, state, usage = os.wait4(self._child, os.WNOHANG)
            if done:
                break
            passed = time.monotonic() - self._start
            if passed > self._seconds:
                late = True
                os.killpg(self._child, signal.SIGKILL)
            elif not self._signalled and passed > self._fault.signal_seconds and self._has_said_it():
                self._signalled = True
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    (os.kill if self._fault.alone else os.killpg)(self._child, self._fault.signal_number)
            time.sleep(0.01)
        seconds = time.monotonic() - self._start
        left = self._left_running()
        errors = self._log.read_text(encoding="utf-8", errors="replace")
        self._log.unlink()
        status = os.waitstatus_to_exitcode(state)
        return Ended(status, errors, seconds, usage.ru_maxrss * 1024, late, left)

    def _has_said_it(self) -> bool:
        return self._fault.signal_text.encode() in self._log.read_bytes()

    def _left_running(self) -> list[str]:
        """Processes of its group after a grace time; they are killed."""
        until = time.monotonic() + GROUP_SECONDS
        while found := _group(self._child):
            if time.monotonic() > until:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._child, signal.SIGKILL)
                return found
            time.sleep(0.05)
        return []


def _group(number: int) -> list[str]:
    """Commands of the living processes of a group."""
    try:
        os.killpg(number, 0)
    except (ProcessLookupError, PermissionError):
        return []
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            state, _, group = entry.read_text().rpartition(")")[2].split()[:3]
            if int(group) == number and state not in "ZX":
                command = entry.with_name("cmdline").read_bytes()
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


def run_forked(script: str, arguments: Sequence[str | bytes], folder: Path, **options: Any) -> Ended:
    """Run SCRIPT.py with arguments in `folder`; the options are those of Running."""
    return Running(script, arguments, folder, **options).wait()


def serve(pipe: Connection) -> None:
    """Run the scripts that come through a pipe, until None comes.

    Each order is a list of scripts to run at once, (script, arguments, folder, options of Running). For processes
    that have threads already, such as a test run, and so cannot fork the scripts themselves.
    """
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    preload()
    while (order := pipe.recv()) is not None:
        running = [
            Running(script, arguments, folder, **{"seconds": 300} | options)
            for script, arguments, folder, options in order
        ]
        pipe.send([each.wait() for each in running])


def _become(
    script: str, arguments: Sequence[str | bytes], folder: Path, log: Path, more_bytes: int, fault: Fault
) -> None:
    """Be the script; never returns."""
    status = 97
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        for name, descriptor in ((os.devnull, 0), (os.devnull, 1), (log, 2)):
            opened = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
            os.dup2(opened, descriptor)
            os.close(opened)
        sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        sys.argv = [f"{script}.py", *(os.fsdecode(argument) for argument in arguments)]
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + more_bytes, size + more_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if fault.file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (fault.file_bytes, fault.file_bytes))
        if fault.obey_permissions:
            _drop_root_rights()
        if fault.clock_back:
            _set_clock_back(fault.clock_back)
        import torch

        torch.set_num_threads(1)
        importlib.import_module("utils.errors").run_script(sys.modules[script].main)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    finally:
        sys.stderr.flush()
        os._exit(status)


def _drop_root_rights() -> None:
    """Take from root the rights to read and write whatever permissions say."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of the interface, this process
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; each twice
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    for index in range(3):
        sets[index] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")


def _set_clock_back(seconds: float) -> None:
    """Let time.time() go back once it was asked for a few times."""
    real, calls = time.time, iter(range(5))
    time.time = lambda: real() if next(calls, None) is not None else real() - seconds
