"""Jobs for the processes of a pool, which cannot import the modules of tests."""

import errno
import os
import time
from pathlib import Path


def double(number: int) -> int:
    return 2 * number


def fail(number: int, folder: str) -> None:
    if number == 0:
        raise ValueError("the first")
    time.sleep(0.05)
    Path(folder, str(number)).touch()


def fill_disk() -> None:
    try:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise ValueError("not written") from error


def die() -> None:
    os._exit(9)
