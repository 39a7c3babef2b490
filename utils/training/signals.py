"""SIGTERM and Ctrl-C end a training after the current step."""

import contextlib
import logging
import signal
from collections.abc import Iterator

logger = logging.getLogger(__name__)


class StopSignals:
    """Records whether SIGTERM or Ctrl-C was received."""

    def __init__(self):
        self.received = False
        self.status = 0
        """Exit status of the script: 143 after SIGTERM, 130 after Ctrl-C."""

    def __call__(self, number: int, _frame: object) -> None:
        """Handle a signal; a second one ends the process at once."""
        self.received = True
        self.status = 128 + number
        logger.warning(f"{signal.Signals(number).name}: the training ends after this step and writes a checkpoint")
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Handle SIGTERM and SIGINT (Ctrl-C) inside the block."""
    stop = StopSignals()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
