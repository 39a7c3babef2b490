"""The checkpoints of a training."""

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
