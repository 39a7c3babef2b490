"""The page's folder: uploads and results, in places that cannot be guessed, deleted after a time."""

import logging
import secrets
import shutil
import threading
import time
from pathlib import Path

from utils.errors import UserError, make_folder

logger = logging.getLogger(__name__)

_MARK = ".dinet-page"
_SWEEP_SECONDS = 30


class PageFolder:
    """A folder that belongs to the page alone, emptied at the start, at the end, and file by file as they get old.

    Args:
        path: made where it does not exist.
        keep_seconds: age at which files are deleted.

    Raises:
        UserError: the folder holds files that are not the page's, or cannot be written to.
    """

    def __init__(self, path: Path, keep_seconds: float):
        self.path = path.absolute()
        self.uploads = self.path / "files"
        self.landmarks = self.path / "landmarks"
        self.fitted = self.path / "fitted"
        self._results = self.uploads / "results"  # below the uploads: served from where they are, without a copy
        self._keep_seconds = keep_seconds
        self._closed = threading.Event()
        mark = self.path / _MARK
        if self.path.is_dir() and any(self.path.iterdir()) and not mark.exists():
            raise UserError(f"--page_dir: {path} holds other files, and the page empties its folder; name a new one")
        make_folder(self.path, "--page_dir")
        mark.touch()
        self.empty()
        threading.Thread(target=self._sweep_often, name="sweep", daemon=True).start()

    def new_result_dir(self) -> Path:
        """A new folder for one result, under a random name."""
        folder = self._results / secrets.token_urlsafe(24)
        folder.mkdir(parents=True)
        return folder

    def holds(self, path: Path) -> bool:
        """Whether a file is an upload or a result."""
        return path.resolve().is_relative_to(self.uploads.resolve())

    def empty(self) -> None:
        """Delete all files."""
        for folder in (self.uploads, self.landmarks, self.fitted):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    def close(self) -> None:
        """Delete all files, for good."""
        self._closed.set()
        shutil.rmtree(self.path, ignore_errors=True)

    def sweep(self) -> None:
        """Delete what has not been written to or used for too long, and folders left empty."""
        oldest = time.time() - self._keep_seconds
        for root in (self.uploads, self.landmarks, self.fitted):
            for path in sorted(root.rglob("*"), reverse=True):  # what lies in a folder before the folder
                try:
                    if path.is_dir():
                        if path != self._results and path.stat().st_mtime < oldest:
                            path.rmdir()
                    elif path.stat().st_mtime < oldest:
                        path.unlink()
                except OSError:  # in use, not empty, or gone already
                    continue

    def _sweep_often(self) -> None:
        while not self._closed.wait(_SWEEP_SECONDS):
            self.sweep()
