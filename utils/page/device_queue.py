"""One piece of work at a time on the device: a queue whose members know their place, and can leave it."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from utils.errors import UserError
from utils.progress import Progress

logger = logging.getLogger(__name__)


class WorkCancelledError(Exception):
    """The work was cancelled by its owner."""


class QueueFullError(Exception):
    """Too many are waiting already."""


class Ticket:
    """One piece of work on its way through the queue. Its attributes are read by other threads.

    Args:
        work: called with a progress callback, which raises WorkCancelledError once the owner has cancelled.
        cleanup: called at the end, whatever it was.
    """

    def __init__(self, work: Callable[[Progress], Any], cleanup: Callable[[bool], None]):
        self._work = work
        self._cleanup = cleanup
        self._cancelled = threading.Event()
        self._finished = threading.Event()
        self.running = False
        self.stage, self.done, self.total = "", 0, 0
        self.stage_start = 0.0
        self.result: Any = None
        self.error: Exception | None = None

    @property
    def finished(self) -> bool:
        """Whether there is a result or an error, or it was cancelled."""
        return self._finished.is_set()

    @property
    def cancelled(self) -> bool:
        """Whether the owner does not want the result."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Stop at the next report of progress, or do not begin."""
        self._cancelled.set()

    def wait(self, seconds: float) -> bool:
        """Wait for the end, for so long at most; returns whether it has come."""
        return self._finished.wait(seconds)

    def seconds_left(self, total: int) -> float | None:
        """Time left in a stage of that total at its speed so far; None where total or speed is not known."""
        passed = time.monotonic() - self.stage_start
        if not total or not self.done or passed < 0.5:
            return None
        return passed * max(0, total - self.done) / self.done

    def progress(self, stage: str, done: int, total: int) -> None:
        """The callback that `work` is given."""
        if self._cancelled.is_set():
            raise WorkCancelledError
        if stage != self.stage:
            self.stage, self.stage_start = stage, time.monotonic()
        self.done, self.total = done, total

    def run(self) -> None:
        """Do the work; errors are kept for the owner."""
        self.running = True
        try:
            self.progress("start", 0, 0)
            self.result = self._work(self.progress)
            if self.cancelled:
                raise WorkCancelledError
        except Exception as error:
            self.error = error
            if not isinstance(error, (WorkCancelledError, UserError)):
                logger.exception("the page's work failed")
        finally:
            self.running = False
            with contextlib.suppress(OSError):
                self._cleanup(self.error is None)
            self._finished.set()


class DeviceQueue:
    """Runs tickets one after the other, in a thread of its own: the networks serve no two threads at once."""

    def __init__(self, max_waiting: int):
        self._max_waiting = max_waiting
        self._tickets: list[Ticket] = []  # the first one is running
        self._changed = threading.Condition()
        threading.Thread(target=self._serve, name="device", daemon=True).start()

    def submit(self, work: Callable[[Progress], Any], cleanup: Callable[[bool], None] = lambda kept: None) -> Ticket:
        """Put work at the end of the queue.

        Args:
            work: see Ticket.
            cleanup: called after the work, with whether it succeeded.

        Raises:
            QueueFullError: too many are waiting.
        """
        ticket = Ticket(work, cleanup)
        with self._changed:
            if self._length() > self._max_waiting:
                raise QueueFullError
            self._tickets.append(ticket)
            self._changed.notify_all()
        return ticket

    def before(self, ticket: Ticket) -> int:
        """How many others come before this one, the running one included."""
        with self._changed:
            waiting = [other for other in self._tickets if other is ticket or other.running or not other.cancelled]
        return waiting.index(ticket) if ticket in waiting else 0

    def __len__(self) -> int:
        with self._changed:
            return self._length()

    def _length(self) -> int:
        return sum(other.running or not other.cancelled for other in self._tickets)

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._tickets)
                ticket = self._tickets[0]
            ticket.run()
            with self._changed:
                self._tickets.remove(ticket)
