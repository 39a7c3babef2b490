"""The checkpoints of a training in its result folder: names, the newest one, how many to keep."""

import logging
import math
import re
from pathlib import Path

from utils.checkpoints import Checkpoint, read_checkpoint
from utils.errors import UserError
from utils.files import remove_partial_files

logger = logging.getLogger(__name__)


class CheckpointFolder:
    """Checkpoints named PREFIX_model_epoch_N.pth, and PREFIX_model_epoch_N_step_S.pth inside epoch N.

    Args:
        folder: where they are.
        prefix: of the file names; netG and syncnet as published.
        keep: number of checkpoints to keep, the newest; 0 for all.
    """

    def __init__(self, folder: Path, prefix: str, keep: int = 0):
        self.folder = folder
        self.prefix = prefix
        self.keep = keep
        self._pattern = re.compile(rf"{prefix}_model_epoch_(\d+)(?:_step_(\d+))?\.pth")

    def path(self, epoch: int, step: int | None = None) -> Path:
        """Name of the checkpoint after an epoch, or after step number `step` of the training, inside the epoch."""
        inside = "" if step is None else f"_step_{step}"
        return self.folder / f"{self.prefix}_model_epoch_{epoch}{inside}.pth"

    def paths(self) -> list[Path]:
        """All checkpoints, oldest first."""
        found = []
        for path in self.folder.glob(f"{self.prefix}_model_epoch_*.pth"):
            if match := self._pattern.fullmatch(path.name):
                epoch, step = match.groups()
                found.append((int(epoch), math.inf if step is None else int(step), path))
        return [path for *_, path in sorted(found)]

    def newest(self, option: str) -> Checkpoint | None:
        """Read the newest checkpoint that can be read, None if there are none at all.

        Raises:
            UserError: there are some, and none can be read.
        """
        problem = None
        for path in reversed(self.paths()):
            try:
                return read_checkpoint(path, option, whole=True)
            except UserError as error:
                logger.warning(f"{error}; trying the one before")
                problem = error
        if problem is not None:
            raise problem
        return None

    def remove_old(self) -> None:
        """Remove all but the newest `keep`."""
        for path in self.paths()[: -self.keep] if self.keep else []:
            path.unlink(missing_ok=True)

    def remove_partial(self) -> None:
        """Remove incomplete files of a process that was killed while writing."""
        remove_partial_files(self.folder, f"{self.prefix}_model_epoch_")
