"""The checkpoints of a training."""

import pytest
import torch

from models.dinet import DINet
from utils.checkpoints import Metadata, write_checkpoint
from utils.errors import UserError
from utils.training.checkpoint_folder import CheckpointFolder


def test_checkpoints_are_ordered_by_epoch_and_step(tmp_path):
    folder = CheckpointFolder(tmp_path, "netG")
    ordered = [folder.path(2), folder.path(10, 95), folder.path(10, 105), folder.path(10), folder.path(11, 111)]
    for path in [
        *reversed(ordered),
        tmp_path / "netG_model_epoch_12_best.pth",
        tmp_path / "syncnet_model_epoch_99.pth",
    ]:
        path.touch()
    assert folder.paths() == ordered
    assert CheckpointFolder(tmp_path / "none", "netG").newest("--x") is None


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    """One bit of a weight is another: PyTorch loads that without a word."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 8]) + data[middle + 1 :]


def emptied(data: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [truncated, flipped, emptied])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, caplog, damage):
    folder = CheckpointFolder(tmp_path, "netG")
    torch.manual_seed(0)
    for epoch in (1, 2):
        write_checkpoint(folder.path(epoch), {"net_g": DINet(3, 15, 80, 8)}, {}, epoch + 1, Metadata(64, "mel", 80, 4))
    folder.path(2).write_bytes(damage(folder.path(2).read_bytes()))
    assert folder.newest("--result_path").path == folder.path(1)
    assert f"{folder.path(2)}" in caplog.text and "trying the one before" in caplog.text
    folder.path(1).write_bytes(damage(folder.path(1).read_bytes()))
    with pytest.raises(UserError, match=r"--result_path: .*epoch_1\.pth"):
        folder.newest("--result_path")
