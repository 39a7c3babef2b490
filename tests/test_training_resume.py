"""Interrupted training that is resumed is the same as training that was not: all three scripts, bit for bit."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from helpers.training_data import interrupt, start_script, train_here, write_perceptual_weights, write_training_set

from models.syncnet import SyncNet
from utils.checkpoints import SYNCNET, Metadata, read_checkpoint, write_checkpoint

STEPS = 4
"""Two epochs of two steps."""
COMMON = ("--augment_num", 2, "--mouth_region_size", 32, "--log_steps", 1, "--augment", "--augment_audio")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """Folder with a training set, perceptual weights, a SyncNet and frame-stage weights, all tiny."""
    folder = tmp_path_factory.mktemp("inputs")
    write_training_set(folder / "set", videos=2, clips=3)
    write_perceptual_weights(folder / "vgg.pth")
    torch.manual_seed(0)
    metadata = Metadata(32, "mel", 80, 4)
    write_checkpoint(folder / "syncnet.pth", {SYNCNET: SyncNet(15, 80)}, {}, 1, metadata)
    return folder


def dinet_options(inputs: Path) -> tuple:
    return ("--train_data", inputs / "set/training_json.json", "--perceptual_weights", inputs / "vgg.pth",
            "--D_num_blocks", 3, "--D_block_expansion", 16, "--feature_channel", 32, *COMMON)  # fmt: skip


@pytest.fixture(scope="module")
def frame_run(inputs, tmp_path_factory) -> tuple[tuple, Path]:
    """Command of the frame stage, and the folder of an uninterrupted run of it."""
    command = ("train_DINet_frame.py", *dinet_options(inputs), "--batch_size", 2, "--ema", 0.9, "--max_steps", STEPS)
    return uninterrupted(command, tmp_path_factory)


@pytest.fixture(scope="module")
def clip_run(inputs, frame_run, tmp_path_factory) -> tuple[tuple, Path]:
    weights = frame_run[1] / "netG_model_epoch_2.pth"
    command = ("train_DINet_clip.py", *dinet_options(inputs), "--batch_size", 1, "--augment_num", 1,
               "--pretrained_frame_DINet_path", weights, "--pretrained_syncnet_path", inputs / "syncnet.pth",
               "--max_steps", STEPS)  # fmt: skip
    return uninterrupted(command, tmp_path_factory)


@pytest.fixture(scope="module")
def sync_run(inputs, tmp_path_factory) -> tuple[tuple, Path]:
    command = ("train_syncnet.py", "--train_data", inputs / "set/training_json.json", *COMMON, "--batch_size", 2,
               "--max_steps", STEPS)  # fmt: skip
    return uninterrupted(command, tmp_path_factory)


def uninterrupted(command: tuple, tmp_path_factory) -> tuple[tuple, Path]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    train_here(*command, "--result_path", folder)
    return command, folder


def last_checkpoint(folder: Path) -> Path:
    paths = sorted(folder.glob("*_model_epoch_2.pth"))
    assert len(paths) == 1
    return paths[0]


def assert_same(one, two, name: str = "") -> None:
    if isinstance(one, dict):
        assert one.keys() == two.keys(), name
        for key in one:
            assert_same(one[key], two[key], f"{name}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(two), name
        for index, pair in enumerate(zip(one, two, strict=True)):
            assert_same(*pair, f"{name}/{index}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two), name
    else:
        assert one == two, name


def test_a_training_in_two_parts_is_the_same_as_in_one(frame_run, tmp_path):
    command, whole = frame_run
    train_here(*command, "--max_steps", STEPS - 1, "--result_path", tmp_path)
    assert {path.name for path in tmp_path.glob("*.pth")} == {"netG_model_epoch_2_step_3.pth"}
    train_here(*command, "--result_path", tmp_path, "--resume")
    assert_same(torch.load(last_checkpoint(whole)), torch.load(last_checkpoint(tmp_path)))


def test_images_of_an_epoch_are_made_after_a_kill_between_its_checkpoint_and_them(frame_run, tmp_path):
    command, whole = frame_run
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    images = {path.name: path.read_bytes() for path in folder.glob("pictures/epoch_0002_*.png")}
    assert images
    for name in images:
        (folder / "pictures" / name).unlink()
    train_here(*command, "--result_path", folder, "--resume")
    assert {path.name: path.read_bytes() for path in folder.glob("pictures/epoch_0002_*.png")} == images


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["frame_run", "clip_run", "sync_run"])
def test_resumed_training_is_the_same_after_sigterm_and_after_kill(stage, request, tmp_path):
    command, whole = request.getfixturevalue(stage)
    command = (*command, "--result_path", tmp_path, "--checkpoint_steps", 1, "--resume")
    status, errors = interrupt(start_script(*command), signal.SIGTERM, tmp_path, set())
    assert status == 143, errors
    assert "SIGTERM" in errors and "Traceback" not in errors
    before = set(tmp_path.glob("*.pth"))
    assert len(before) < STEPS
    status, errors = interrupt(start_script(*command), signal.SIGKILL, tmp_path, before)
    assert status == -signal.SIGKILL
    (tmp_path / f".{last_checkpoint(whole).name}.{0:016x}.partial").write_bytes(b"half")  # as if killed while it wrote
    train_here(*command)

    assert_same(torch.load(last_checkpoint(whole)), torch.load(last_checkpoint(tmp_path)))
    assert not list(tmp_path.glob(".*.partial"))
    losses = [
        [(r["step"], {k: v for k, v in r.items() if k in ("dI", "perception", "sync")}) for r in read_log(folder)]
        for folder in (whole, tmp_path)
    ]
    assert losses[0] == losses[1] and [step for step, _ in losses[0]] == [1, 2, 3, 4]


def read_log(folder: Path, kind: str = "train") -> list[dict]:
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def test_a_frame_run_leaves_checkpoints_of_the_published_layout_a_log_and_pictures(frame_run):
    _, folder = frame_run
    content = torch.load(last_checkpoint(folder), weights_only=True)
    assert content["epoch"] == 3
    assert {"net_g", "net_dI"} <= content["state_dict"].keys() and content["optimizer"].keys() == {"net_g", "net_dI"}
    assert all(key.startswith("module.") for key in content["state_dict"]["net_g"])
    checkpoint = read_checkpoint(last_checkpoint(folder), "--x")
    assert checkpoint.metadata == Metadata(32, "mel", 80, 4, 32)
    # Names on disk are those of every earlier version: a training of theirs is resumed.
    assert set(checkpoint.extra) == {"position", "random_state", "scalers"}
    assert checkpoint.extra["position"] == {"epoch": 3, "step_in_epoch": 0, "step": STEPS}
    average, network = (checkpoint.networks[name]["out_conv.4.weight"] for name in ("net_g_ema", "net_g"))
    assert 0 < (average - network).abs().max() < 1e-3
    records = read_log(folder)
    assert [record["samples"] for record in records] == [2, 4, 6, 8]
    needed = {"dI", "perception", "g_dI", "lr_net_g", "samples_per_second", "data_wait", "memory_mib"}
    assert needed <= records[0].keys()
    assert {path.name for path in (folder / "pictures").iterdir()} == {"epoch_0001_train.png", "epoch_0002_train.png"}


def test_a_run_says_what_it_does_and_names_its_checkpoint(inputs, tmp_path, caplog):
    caplog.set_level("INFO")
    train_here("train_syncnet.py", "--train_data", inputs / "set/training_json.json", *COMMON, "--batch_size", 2,
               "--max_steps", 1, "--result_path", tmp_path)  # fmt: skip
    start, *_, checkpoint, end = (record.message for record in caplog.records)
    assert start == (
        "training on the CPU: 4 samples per epoch, 2 steps of 2, epoch 1 to 400, at most 1 steps; "
        f"results in {tmp_path}"
    )
    assert checkpoint == f"checkpoint: {tmp_path / 'syncnet_model_epoch_1_step_1.pth'}"
    assert end.startswith("training ends")


def test_a_clip_run_takes_over_both_networks_of_the_frame_stage(frame_run, clip_run):
    start = read_checkpoint(last_checkpoint(frame_run[1]), "--x").networks
    after = read_checkpoint(last_checkpoint(clip_run[1]), "--x").networks
    assert set(after) == {"net_g", "net_dI", "net_dV"}
    for name in ("net_g", "net_dI"):
        for key, value in start.get(f"{name}_ema", start[name]).items():
            if key.endswith("weight"):
                assert (after[name][key] - value).abs().max() <= STEPS * 1.1e-4, (name, key)
    assert {"dV", "g_dV", "sync"} <= read_log(clip_run[1])[0].keys()


def test_a_sync_run_leaves_a_published_syncnet_and_reports_on_held_out_clips(sync_run, tmp_path):
    command, folder = sync_run
    content = torch.load(last_checkpoint(folder), weights_only=True)
    assert content["state_dict"].keys() == {"net"}
    SyncNet(15, 80).load_state_dict(content["state_dict"]["net"])
    train_here(*command, "--result_path", tmp_path, "--hold_out", 0.34, "--max_steps", 2, "--val_samples", 4,
               "--coarse2fine", "--coarse_model_path", last_checkpoint(folder))  # fmt: skip
    (report,) = read_log(tmp_path, "validation")
    assert report["data"] == "held_out" and 0 <= report["pair_accuracy"] <= 1
    assert {"sync", "accuracy", "positive_score", "negative_score"} <= report.keys()


def test_a_published_checkpoint_is_resumed_by_its_epoch(frame_run, tmp_path, caplog):
    caplog.set_level("INFO")
    command, whole = frame_run
    content = torch.load(last_checkpoint(whole))
    del content["dinet"], content["state_dict"]["net_g_ema"]
    for state in content["optimizer"].values():
        for group in state["param_groups"]:
            group.pop("fused")
    torch.save(content, tmp_path / "netG_model_epoch_2.pth")
    train_here(*command, "--max_steps", 5, "--result_path", tmp_path, "--resume")
    assert "netG_model_epoch_2.pth: epoch 3, step 4" in caplog.text
    assert read_log(tmp_path)[0]["step"] == 5


def test_resuming_a_broken_newest_checkpoint_falls_back_to_the_one_before(frame_run, tmp_path, caplog):
    caplog.set_level("INFO")
    command, whole = frame_run
    good = last_checkpoint(whole).read_bytes()
    (tmp_path / "netG_model_epoch_2.pth").write_bytes(good)
    (tmp_path / "netG_model_epoch_3_step_5.pth").write_bytes(good[: len(good) // 2])
    train_here(*command, "--result_path", tmp_path, "--resume")
    assert "netG_model_epoch_3_step_5.pth is cut short" in caplog.text
    assert f"resuming from {tmp_path / 'netG_model_epoch_2.pth'}" in caplog.text
