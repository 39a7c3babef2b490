"""What a training tells: lines of JSON, TensorBoard, a progress bar."""

import json
import logging
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from utils.files import atomic_path

logger = logging.getLogger(__name__)

LOG_NAME = "log.jsonl"


class TrainingLog:
    """Appends records to FOLDER/log.jsonl and, if asked to and installed, to TensorBoard's files in FOLDER/tensorboard.

    Args:
        folder: result folder of the training.
        step: of the training that goes on from there; what an interrupted process logged beyond it is removed.
        tensorboard: write for TensorBoard, too.
    """

    def __init__(self, folder: Path, step: int, tensorboard: bool = False):
        self._path = folder / LOG_NAME
        self._cut(step)
        self._file = self._path.open("a", encoding="utf-8")
        self._writer = _open_tensorboard(folder / "tensorboard", step) if tensorboard else None

    def _cut(self, step: int) -> None:
        if not self._path.exists():
            return
        lines = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    lines.append(f"{line}\n")
            except (ValueError, KeyError):
                continue  # a line that a killed process left unfinished
        with atomic_path(self._path) as partial:
            partial.write_text("".join(lines), encoding="utf-8")

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Add a record; numbers go to TensorBoard as KIND/NAME."""
        record = {"kind": kind, "step": step, "time": round(time.time(), 3)} | values
        self._file.write(json.dumps(record, default=str) + "\n")
        self._file.flush()
        if self._writer is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._writer.add_scalar(f"{kind}/{name}", value, step)

    def picture(self, name: str, step: int, picture: np.ndarray) -> None:
        """Show a picture, uint8 RGB [h, w, 3], in TensorBoard."""
        if self._writer is not None:
            self._writer.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Close the files."""
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


def peak_memory(device: torch.device) -> int:
    """Most memory used so far in MiB: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) >> 20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)


class Averages:
    """Means of values over the steps since the last look, and how fast these went."""

    def __init__(self):
        self._start()

    def _start(self) -> None:
        self._sums: dict[str, float] = {}
        self._steps = 0
        self._waited = 0.0
        self._began = time.perf_counter()

    def add(self, values: dict[str, float], waited: float) -> None:
        """Count a step in; `waited` seconds of it went by waiting for data."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps += 1
        self._waited += waited

    def take(self, batch_size: int) -> dict[str, float]:
        """The means, samples a second and share of the time waited; starts anew."""
        seconds = time.perf_counter() - self._began
        means = {name: total / self._steps for name, total in self._sums.items()}
        means["samples_per_second"] = self._steps * batch_size / seconds
        means["data_wait"] = self._waited / seconds
        self._start()
        return means

    def pause(self) -> None:
        """Leave out the time since the last look, of which no step was counted: something else was done."""
        self._began = time.perf_counter()

    @property
    def steps(self) -> int:
        """Steps counted since the last look."""
        return self._steps
