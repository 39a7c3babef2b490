"""Training log: JSON lines and TensorBoard."""

import json
import logging
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from utils.files import atomic_path

logger = logging.getLogger(__name__)

LOG_NAME = "log.jsonl"


class TrainingLog:
    """Appends records to FOLDER/log.jsonl and, with `tensorboard`, if it is installed, to FOLDER/tensorboard.

    Args:
        folder: result folder of the training.
        step: that the training continues from; records of later steps, of an interrupted process, are removed.
        tensorboard: write for TensorBoard as well.
        enabled: False writes and reads nothing, as in the processes of a distributed training but the main one.

    Attributes:
        last_kinds: kinds of the records that an earlier process has written at `step`.
    """

    def __init__(self, folder: Path, step: int, tensorboard: bool = False, *, enabled: bool = True):
        self._path = folder / LOG_NAME
        self.last_kinds: set[str] = set()
        self._file: TextIO | None = None
        self._writer: Any = None
        if not enabled:
            return
        self._cut(step)
        if self._path.is_symlink():
            self._path.unlink()  # a log is never written into a file of another folder
        self._file = self._path.open("a", encoding="utf-8")
        if tensorboard:
            self._writer = _open_tensorboard(folder / "tensorboard", step)

    def _cut(self, step: int) -> None:
        if not self._path.exists():
            return
        lines = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
                if record["step"] <= step:
                    lines.append(f"{line}\n")
                if record["step"] == step:
                    self.last_kinds.add(record["kind"])
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # an incomplete line of a killed process
        with atomic_path(self._path) as partial:
            partial.write_text("".join(lines), encoding="utf-8")

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Add a record; numbers go to TensorBoard as KIND/NAME."""
        if self._file is None:
            return
        record = {"kind": kind, "step": step, "time": round(time.time(), 3)} | values
        self._file.write(json.dumps(record, default=str) + "\n")
        self._file.flush()
        if self._writer is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._writer.add_scalar(f"{kind}/{name}", value, step)

    def image(self, name: str, step: int, image: np.ndarray) -> None:
        """Show an image, uint8 RGB [h, w, 3], in TensorBoard."""
        if self._writer is not None:
            self._writer.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Close the files."""
        if self._file is not None:
            self._file.close()
        if self._writer is not None:
            self._writer.close()


def _open_tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.warning("--tensorboard: the package tensorboard is not installed; the log goes to log.jsonl alone")
        return None
    return SummaryWriter(folder, purge_step=step + 1)


class MetricMeter:
    """Mean losses and throughput since the last report."""

    def __init__(self):
        self._start()

    def _start(self) -> None:
        self._sums: dict[str, float] = {}
        self._steps = 0
        self._waited = 0.0
        self._began = time.perf_counter()

    def update(self, values: dict[str, float], waited: float) -> None:
        """Add the losses of a step; `waited`: seconds of it spent waiting for data."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps += 1
        self._waited += waited

    def compute_and_reset(self, batch_size: int) -> dict[str, float]:
        """Return the means, samples per second and the share of the time spent waiting; starts over."""
        seconds = time.perf_counter() - self._began
        means = {name: total / self._steps for name, total in self._sums.items()}
        means["samples_per_second"] = self._steps * batch_size / seconds
        means["data_wait"] = self._waited / seconds
        self._start()
        return means

    def skip_time(self) -> None:
        """Do not count the time since the last step, in which something else was done."""
        self._began = time.perf_counter()

    @property
    def steps(self) -> int:
        """Steps since the last report."""
        return self._steps
