"""How a script tells its user what went wrong."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

logger = logging.getLogger(__name__)


class UserError(Exception):
    """Something only the user can mend: a file, an option, a full disk.

    The message is one line that names the file or option, says what is wrong, and what to do about it.
    """


@contextlib.contextmanager
def blame(option: str, hint: str = "", only: type[UserError] = UserError) -> Iterator[None]:
    """Name the option that led to a UserError raised inside the block.

    Low-level code knows the file, only the script knows which of its options named it:

        with blame("--clips"):
            reader = VideoReader(path)

    The error keeps its type. One that begins with an option already stays as it is, so the innermost block counts.

    Args:
        option: command-line option, such as "--clips".
        hint: what to do, added at the end of the line.
        only: kind of error to name the option of.
    """
    try:
        yield
    except only as error:
        if not str(error).startswith("--"):
            error.args = (f"{option}: {error}" + (f"; {hint}" if hint else ""),)
        raise


def require_file(path: str | Path, option: str | None = None, hint: str = "") -> Path:
    """Return `path` as a Path if it is a readable, non-empty file.

    Args:
        path: the file.
        option: command-line option that named it; None where the caller wraps the call in `blame`.
        hint: what to do, added at the end of the line.

    Raises:
        UserError: not such a file.
    """
    path = Path(path)
    if path.is_dir():
        problem = "is a folder, a file is needed"
    elif not path.exists():
        problem = "does not exist"
    elif not os.access(path, os.R_OK):
        problem = "cannot be read (permissions)"
    elif path.stat().st_size == 0:
        problem = "is empty (0 bytes)"
    else:
        return path
    raise UserError((f"{option}: " if option else "") + f"{path} {problem}" + (f"; {hint}" if hint else ""))


def make_folder(path: Path, option: str) -> None:
    """Make a folder for results, with its parents, and see that files can be written there.

    Raises:
        UserError: naming `option`.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{option}: {path} is, or lies below, a file; name a folder") from None
    except OSError as error:
        raise UserError(f"{option}: cannot write to the folder {path} ({error.strerror}); name another one") from None


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Run `main` as a command: a UserError becomes one line on stderr and exit status 2.

    Any other exception is a bug of ours and keeps its traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        status = main()
    except UserError as error:
        line = " ".join(str(error).split())
        print(f"{Path(sys.argv[0]).name}: error: {line}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{Path(sys.argv[0]).name}: interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(status or 0)
