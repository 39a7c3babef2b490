"""Atomic file writes and content fingerprints.

A partial file lies beside its target under a random name and is created exclusively: a link placed there by another
user is never followed, and two processes that write the same result do not collide. Its writer holds a lock on it until
the process ends; files left by killed processes are removed by the next process that writes the same target.
"""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

try:
    import fcntl
except ImportError:  # native Windows, which keeps what a killed process left
    fcntl = None

NAME_BYTES = 255
"""Longest name of a file, in bytes, on the usual file systems."""
_SUFFIX = ".partial"
_TOKEN_BYTES = 8


class PartialFile:
    """A file beside `target` that takes its name when it is complete.

    A context manager that calls `complete` at the end of the block, or `discard` if the block raises.

    Args:
        target: the final name; a link of that name is replaced, not followed.

    Raises:
        OSError: the file cannot be created.
    """

    def __init__(self, target: Path):
        self.target = target
        if target.name in ("", "..") or target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
        prefix = fit_name(f".{target.name}", ".", NAME_BYTES - 2 * _TOKEN_BYTES - len(_SUFFIX))
        _remove_leftovers(target.parent, re.escape(prefix))
        self._descriptor: int | None = None
        while self._descriptor is None:
            self.path = target.with_name(f"{prefix}{secrets.token_hex(_TOKEN_BYTES)}{_SUFFIX}")
            self._descriptor = _create_locked(self.path)

    @property
    def writable_name(self) -> str:
        """A name for libraries that open files themselves: leads to this very file, whatever its folder is called."""
        return descriptor_name(self._descriptor, self.path)

    def complete(self) -> None:
        """Give the file its final name.

        Raises:
            OSError: the target is a folder, or the disk reports an error.
        """
        try:
            self.path.replace(self.target)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove the file unless it is complete."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "PartialFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.complete()
        else:
            self.discard()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield the name of an empty file beside `path`; it becomes `path` if the block succeeds, and is removed if not."""
    with PartialFile(path) as partial:
        yield partial.path


def remove_partial_files(folder: Path, start: str) -> None:
    """Remove partial files that killed processes left, of targets whose names begin with `start`."""
    _remove_leftovers(folder, re.escape(f".{start}") + ".*")


def descriptor_name(descriptor: int, path: Path) -> str:
    """A name by which a library can open the file behind a descriptor; `path` where the system has no such names.

    The name is plain ASCII, and leads to the file that was opened even if another one has taken its path since.
    """
    name = f"/proc/self/fd/{descriptor}"
    return name if os.path.exists(name) else str(path.absolute())  # noqa: PTH110


def open_regular_file(path: Path) -> int:
    """Open a file for reading and return the descriptor; never waits for the other end of a pipe.

    Raises:
        OSError: no such file, no permission, or it is a folder, a pipe or a device (EINVAL).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError:  # a null byte, or characters that the file system's encoding lacks
        raise OSError(errno.EINVAL, "no file can have that name", str(path)) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def file_keys(path: Path) -> set[tuple]:
    """Keys to tell whether two paths lead to one file: paths of the same file have a key in common.

    The path without links and `..`, which exists for files that are still to be written; and the file itself, whatever
    its names are. No keys for a path that no file can have.
    """
    try:
        real = os.path.realpath(path)
        keys: set[tuple] = {(real,)}
        status = path.stat()
        keys.add((status.st_dev, status.st_ino))
    except FileNotFoundError:
        pass
    except (ValueError, OSError):
        return set()
    return keys


def fit_name(stem: str, ending: str, longest: int = NAME_BYTES) -> str:
    """Return `stem` + `ending`, with the stem shortened so that the name has at most `longest` bytes.

    A shortened stem ends with a hash of the whole one: two long names that begin alike stay apart.
    """
    room = longest - _size(ending)
    if _size(stem) > room:
        mark = "~" + hashlib.sha256(stem.encode(errors="surrogatepass")).hexdigest()[:8]
        stem = stem[:room]  # a character has at least a byte
        while _size(stem + mark) > room:
            stem = stem[:-1]
        stem += mark
    return stem + ending


def _size(name: str) -> int:
    """Bytes of a name; at least, for names that no file can have, too."""
    return len(name.encode(errors="surrogatepass"))


def file_fingerprint(path: Path) -> str:
    """Short name of a file's content, from its size, beginning and end.

    Raises:
        OSError: no regular file that can be read.
    """
    with os.fdopen(open_regular_file(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(str(size).encode())
        digest.update(file.read(1 << 20))
        file.seek(max(0, size - (1 << 20)))
        digest.update(file.read())
    return digest.hexdigest()[:12]


def _create_locked(path: Path) -> int | None:
    """Create a file and lock it; None where another process took it for a leftover before it was locked."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
    if fcntl is None:
        return descriptor
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        taken = not path.exists()
    except BlockingIOError:
        taken = True
    except OSError:  # some network file systems have no locks: nobody removes leftovers there
        taken = False
    if taken:
        os.close(descriptor)
        return None
    return descriptor


def _remove_leftovers(folder: Path, start: str) -> None:
    """Remove partial files, by a regular expression of their names' beginning, that no process writes any more."""
    if fcntl is None:
        return
    pattern = re.compile(f"{start}[0-9a-f]{{{2 * _TOKEN_BYTES}}}{re.escape(_SUFFIX)}", re.DOTALL)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if pattern.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                _remove_if_unlocked(entry.path)


def _remove_if_unlocked(path: str) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)  # noqa: PTH108
        finally:
            os.close(descriptor)
