"""Run the real scripts in forked children, under limits: seconds less per run than a new interpreter takes."""

import contextlib
import importlib
import os
import resource
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

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
    "export_weights",
)
_PRELOADED = (
    *SCRIPTS,
    "torch",
    "av",
    "cv2",
    "dlib",
    "scenedetect.detectors",
    "utils.dubbing",
    "utils.dubbing.engine",
    "utils.dubbing.load",
    "utils.face.tracker",
    "utils.speech.extractor",
    "dataset.loading",
    "utils.training.trainer",
    "utils.evaluation.evaluator",
)
OUT_OF_TIME = "out of time"


@dataclass(frozen=True)
class Ended:
    """How a script ended: its exit status (negative: the signal), its standard error, its time and memory."""

    status: int
    errors: str
    seconds: float
    peak_bytes: int
    out_of_time: bool


def preload() -> None:
    """Import what the scripts import, once, for all children.

    Nothing is computed here: threads do not survive a fork.
    """
    for name in _PRELOADED:
        importlib.import_module(name)


def run_forked(
    script: str,
    arguments: list[str | bytes],
    folder: Path,
    seconds: float = 60,
    more_bytes: int = 3 << 30,
    signal_number: int | None = None,
    signal_seconds: float = 0,
    file_bytes: int | None = None,
) -> Ended:
    """Run SCRIPT.py with arguments in `folder`.

    Args:
        script: name without .py.
        arguments: of the script; bytes are names that need not be UTF-8.
        folder: where it runs.
        seconds: after which it is killed.
        more_bytes: of memory that it may take beyond that of this process.
        signal_number: sent to it and its children, as Ctrl-C is.
        signal_seconds: after which that is.
        file_bytes: largest file that it may write, as on a full disk.
    """
    log = folder / "stderr.txt"
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _become(script, arguments, folder, log, more_bytes, file_bytes)
    status, usage, late = None, None, False
    while status is None:
        done, state, usage = os.wait4(child, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(state)
        elif time.monotonic() - start > seconds:
            late = True
            os.killpg(child, signal.SIGKILL)
            _, state, usage = os.wait4(child, 0)
            status = os.waitstatus_to_exitcode(state)
        else:
            if signal_number is not None and time.monotonic() - start > signal_seconds:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child, signal_number)
                signal_number = None
            time.sleep(0.01)
    errors = log.read_text(encoding="utf-8", errors="replace")
    log.unlink()
    return Ended(status, errors, time.monotonic() - start, usage.ru_maxrss * 1024, late)


def serve(pipe: Connection) -> None:
    """Run the scripts that come through a pipe, (script, arguments, folder, options of run_forked), until None comes.

    For processes that have threads already, such as a test run, and so cannot fork the scripts themselves.
    """
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    preload()
    while (order := pipe.recv()) is not None:
        script, arguments, folder, options = order
        pipe.send(run_forked(script, arguments, folder, seconds=300, **options))


def _become(
    script: str, arguments: list[str | bytes], folder: Path, log: Path, more_bytes: int, file_bytes: int | None
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
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
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
