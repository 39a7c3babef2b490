"""UserError, checks of paths, and the script runner that turns errors into one line and an exit status."""

import contextlib
import errno
import logging
import os
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.01
"""After this time, a signal that Python ignored is delivered again."""
GRACE_SECONDS = 4.0
"""Time for a script to clean up after SIGTERM or Ctrl-C before it is killed."""

_MAX_LINE_LENGTH = 2000  # characters: a file may quote anything

_ENVIRONMENT = {  # errors of the system that are no bugs of ours -> the way out
    errno.ENOSPC: "free some space or choose another disk",
    errno.EDQUOT: "free some space or choose another disk",
    errno.EFBIG: "write to a disk that takes larger files",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "change its permissions or choose another path",
    errno.EPERM: "change its permissions or choose another path",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "mend the links, which lead in a circle",
    errno.ENOTDIR: "name a path whose folders are folders",
    errno.EISDIR: "name a file",
    errno.EIO: "check the disk",
    errno.ESTALE: "mount the disk again",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of open files of the system",
}


class UserError(Exception):
    """A problem that the user can fix: a file, an option, a full disk.

    The message is one line that names the file or option, says what is wrong, and what to do about it.
    """


@contextlib.contextmanager
def blame(option: str, hint: str = "", only: type[UserError] = UserError) -> Iterator[None]:
    """Add an option's name to a UserError raised inside the block.

    Low-level code knows the file; only the script knows which of its options named it:

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
    """Return `path` as a Path if it is a readable, non-empty, regular file.

    Args:
        path: the file.
        option: command-line option that named it; None where the caller wraps the call in `blame`.
        hint: what to do, added at the end of the line; empty: a general one.

    Raises:
        UserError: not such a file.
    """
    path = Path(path)
    problem, way_out = _file_problem(path)
    if problem is None:
        return path
    hint = hint or way_out
    raise UserError((f"{option}: " if option else "") + f"{path} {problem}; {hint}")


def require_result(path: str | Path, option: str | None = None) -> Path:
    """Return `path` as a Path if a file can be written under that name; an older file there is fine.

    Raises:
        UserError: a folder, a pipe, a name that is too long or impossible.
    """
    path = Path(path)
    try:
        problem, way_out = None, ""
        if path.name in ("", ".."):
            problem, way_out = "is a folder, the result is a file", "name a file, such as result.mp4"
        elif stat.S_ISDIR(mode := path.stat().st_mode):
            problem, way_out = "is a folder, but the result is to have that name", "name another file"
        elif not stat.S_ISREG(mode):
            problem, way_out = "is a pipe or a device, the result is a file", "name another file"
    except FileNotFoundError:
        pass
    except (ValueError, OSError) as error:
        problem, way_out = _path_problem(error)
    if problem is None:
        return path
    raise UserError((f"{option}: " if option else "") + f"{path} {problem}; {way_out}")


def _file_problem(path: Path) -> tuple[str | None, str]:
    """Why a path is not a readable, non-empty file, and what to do; (None, "") if it is one."""
    try:
        mode = path.stat().st_mode
        size = path.stat().st_size
    except FileNotFoundError:
        return "does not exist", "check the path"
    except (ValueError, OSError) as error:
        return _path_problem(error)
    if stat.S_ISDIR(mode):
        return "is a folder, a file is needed", "name a file in it"
    if not stat.S_ISREG(mode):
        return "is a pipe or a device, a file is needed", "save it to a file first"
    if not os.access(path, os.R_OK):
        return "cannot be read (permissions)", "make it readable (chmod +r)"
    if size == 0:
        return "is empty (0 bytes)", "copy or make it again"
    return None, ""


def _path_problem(error: ValueError | OSError) -> tuple[str, str]:
    """Why the system cannot look up a path, and what to do."""
    if isinstance(error, ValueError):  # a null byte, or characters that the file system's encoding lacks
        return "has characters that no file name can have", "rename it"
    if error.errno == errno.ENAMETOOLONG:
        return "is too long for a path", "give it a shorter name (file systems allow 255 bytes)"
    if error.errno == errno.ELOOP:
        return "is a link that leads in a circle", "name the file itself"
    if error.errno == errno.ENOTDIR:
        return "lies below a file", "check the path"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "cannot be reached (permissions of its folder)", "make the folder searchable (chmod +x)"
    return f"cannot be looked up ({error.strerror or error})", "check the path"


def make_folder(path: Path, option: str) -> None:
    """Make a folder for results, with its parents, and check that files can be written there.

    Raises:
        UserError: naming `option`.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{option}: {path} is, or lies below, a file; name a folder") from None
    except ValueError:
        raise UserError(f"{option}: {path!s} has characters that no folder can have; name another one") from None
    except OSError as error:
        raise UserError(f"{option}: cannot write to the folder {path} ({error.strerror}); name another one") from None


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Run `main` as a command.

    A UserError, and errors of the system (a full disk, permissions, no memory), become one line on stderr and exit
    status 2. SIGTERM and Ctrl-C become one line and status 143 and 130; partial files are removed. After GRACE_SECONDS,
    or at a second signal, the program is killed. Any other exception is a bug of ours and keeps its traceback.
    """
    _open_standard_streams()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    interruption = _Interruption()
    try:
        status = main()
    except BaseException as error:
        # An interruption may arrive as something else, such as an ImportError.
        if interruption.status:
            interruption.end()
        problem = str(error) if isinstance(error, UserError) else environment_problem(error)
        if isinstance(error, KeyboardInterrupt):  # raised by something else than a signal
            _print_line("interrupted")
            sys.exit(130)
        if problem is None:
            raise
        _print_line(f"error: {' '.join(problem.split())}")
        sys.exit(2)
    finally:
        interruption.restore()
    sys.exit(status or 0)


def environment_problem(error: BaseException) -> str | None:
    """One line for an error of the system, such as a full disk; None for other errors."""
    # PyTorch's allocator of the processor raises a RuntimeError.
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate memory" in str(error)):
        return "there is not enough memory; free some, or take smaller files or batches"
    if isinstance(error, OSError) and error.errno in _ENVIRONMENT:
        name = f"{error.filename}: " if error.filename is not None else ""
        return f"{name}{os.strerror(error.errno)}; {_ENVIRONMENT[error.errno]}"
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which must not be imported for this
        return "there is not enough GPU memory; lower --batch_size, or use --device cpu"
    return None


def _print_line(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # stderr is closed
        print(f"{Path(sys.argv[0]).name}: {_shortened(text)}", file=sys.stderr, flush=True)


def _shortened(text: str) -> str:
    """The text without its middle if it is very long; the end, which says what to do, stays."""
    half = _MAX_LINE_LENGTH // 2
    return text if len(text) <= _MAX_LINE_LENGTH else f"{text[:half]} ... {text[-half:]}"


def _open_standard_streams() -> None:
    """Give a program that was started without stdin, stdout or stderr the null device in their place.

    Otherwise the next file that is opened becomes descriptor 2, and C libraries write their warnings into it.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115, PTH123


class _Interruption:
    """Turns the first SIGTERM or Ctrl-C into a KeyboardInterrupt, and kills the program if it does not end in time."""

    def __init__(self) -> None:
        self.status = 0
        self._before: dict[int, object] = {}
        if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no handlers
            self._before = {number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)}
        self._hook = sys.unraisablehook
        sys.unraisablehook = self._take_again

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self.status:
            self.end()
        self.status = 128 + number
        timer = threading.Timer(GRACE_SECONDS, self.end)
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt

    def _take_again(self, ignored: "sys.UnraisableHookArgs") -> None:
        """Deliver a signal again that arrived where Python ignores exceptions, as in a destructor."""
        if self.status and isinstance(ignored.exc_value, KeyboardInterrupt):
            number, self.status = self.status - 128, 0
            timer = threading.Timer(RETRY_SECONDS, os.kill, (os.getpid(), number))
            timer.daemon = True
            timer.start()
        else:
            self._hook(ignored)

    def end(self) -> NoReturn:
        """Print that the program was interrupted, and end it without waiting for its threads."""
        _print_line(f"interrupted ({signal.Signals(self.status - 128).name})")
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(self.status)

    def restore(self) -> None:
        """Restore the signal handlers that were set before."""
        sys.unraisablehook = self._hook
        if not self.status:
            for number, handler in self._before.items():
                signal.signal(number, handler)
