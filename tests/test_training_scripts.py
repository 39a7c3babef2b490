"""Training scripts as users meet them: the published command lines, limits, and what goes wrong."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training_data import PROJECT, run_script, train_here, write_perceptual_weights, write_training_set

from dataset.manifest import read_manifest
from models.syncnet import SyncNet
from utils.checkpoints import SYNCNET, Metadata, read_checkpoint, write_checkpoint
from utils.dubbing.settings import SHIPPED_WEIGHTS
from utils.errors import UserError
from utils.face.landmarks import LandmarkTable
from utils.face.openface_csv import write_openface_csv
from utils.training.build import make_dinet_networks
from utils.training.checkpoint_folder import CheckpointFolder
from utils.training.pretrained import check_metadata
from utils.training.settings import NetworkSettings

SMALL = ("--mouth_region_size", 32, "--D_num_blocks", 3, "--D_block_expansion", 8)

PUBLISHED_COMMANDS = {
    "frame_64": "train_DINet_frame.py --augment_num=32 --mouth_region_size=64 --batch_size=24 "
    "--result_path=./asserts/training_model_weight/frame_training_64",
    "frame_128": "train_DINet_frame.py --augment_num=100 --mouth_region_size=128 --batch_size=80 --coarse2fine "
    "--coarse_model_path=./asserts/training_model_weight/frame_training_64/xxxxxx.pth "
    "--result_path=./asserts/training_model_weight/frame_training_128",
    "frame_256": "train_DINet_frame.py --augment_num=20 --mouth_region_size=256 --batch_size=12 --coarse2fine "
    "--coarse_model_path=./asserts/training_model_weight/frame_training_128/xxxxxx.pth "
    "--result_path=./asserts/training_model_weight/frame_training_256",
    "clip_256": "train_DINet_clip.py --augment_num=3 --mouth_region_size=256 --batch_size=3 "
    "--pretrained_syncnet_path=./asserts/syncnet_256mouth.pth "
    "--pretrained_frame_DINet_path=./asserts/training_model_weight/frame_training_256/xxxxx.pth "
    "--result_path=./asserts/training_model_weight/clip_training_256",
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A folder with everything the published command lines read, at its published place."""
    folder = tmp_path_factory.mktemp("prepared")
    write_training_set(folder / "asserts/training_data", kind="deepspeech")
    weights = folder / "asserts/training_model_weight"
    torch.manual_seed(0)
    made = make_dinet_networks(NetworkSettings(D_num_blocks=3, D_block_expansion=8), 29)
    made = make_dinet_networks(NetworkSettings(D_num_blocks=3, D_block_expansion=8), 29)
    networks = {name: network.state_dict() for name, network in made.items()}
    published = {"epoch": 2, "state_dict": {n: {f"module.{k}": v for k, v in s.items()} for n, s in networks.items()}}
    for name in ("frame_training_64/xxxxxx.pth", "frame_training_128/xxxxxx.pth", "frame_training_256/xxxxx.pth"):
        (weights / name).parent.mkdir(parents=True)
        torch.save(published, weights / name)
    torch.save({"state_dict": {"net": SyncNet().state_dict()}}, folder / "asserts/syncnet_256mouth.pth")
    (folder / "torch/hub/checkpoints").mkdir(parents=True)
    write_perceptual_weights(folder / "torch/hub/checkpoints/vgg19-dcbb9e9d.pth")
    write_checkpoint(folder / "sync64.pth", {SYNCNET: SyncNet()}, {}, 1, Metadata(64, "deepspeech", 29, 1))
    return folder


@pytest.fixture
def there(prepared, tmp_path, monkeypatch) -> Path:
    """The current folder, a copy of the prepared one."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    # Paths in the json count from the current folder, as in published ones.
    path = tmp_path / "asserts/training_data/training_json.json"
    path.write_text(path.read_text().replace(f"{prepared.as_posix()}/", "./"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


@pytest.mark.parametrize("name", PUBLISHED_COMMANDS)
def test_published_command_lines_run(name, there):
    script, *options = PUBLISHED_COMMANDS[name].split()
    train_here(script, *options, *SMALL, "--batch_size", 2, "--max_steps", 1)
    folder = Path(options[-1].partition("=")[2])
    checkpoint = read_checkpoint(folder / "netG_model_epoch_1_step_1.pth", "--x")
    assert checkpoint.metadata == Metadata(32, "deepspeech", 29, 1, 256)


@pytest.mark.slow
def test_the_first_published_command_line_runs_as_it_is_written_but_for_the_batch_size(there):
    script, *options = PUBLISHED_COMMANDS["frame_64"].split()
    train_here(script, *options, "--batch_size", 2, "--max_steps", 1)
    assert Path("asserts/training_model_weight/frame_training_64/netG_model_epoch_1_step_1.pth").is_file()


def sync_command(*options: object) -> tuple:
    return ("train_syncnet.py", "--mouth_region_size", 32, "--augment_num", 2, "--batch_size", 2, "--hold_out", 0,
            "--result_path", "out", *options)  # fmt: skip


def frame_command(*options: object) -> tuple:
    return ("train_DINet_frame.py", *SMALL, "--augment_num", 1, "--batch_size", 2, "--result_path", "out",
            "--max_steps", 1, *options)  # fmt: skip


def clip_command(*options: object) -> tuple:
    return ("train_DINet_clip.py", *frame_command()[1:], "--pretrained_syncnet_path", "asserts/syncnet_256mouth.pth",
            *options)  # fmt: skip


def write_landmarks(folder: Path, json_path: Path) -> None:
    """Landmarks of the videos of a made-up training set, whose mouths open with the mean of their speech."""
    folder.mkdir()
    rest = np.random.default_rng(0).uniform(0, 10, (68, 2)).astype(np.float32)
    rest[36:42], rest[42:48] = (30, 40), (70, 40)
    for video in read_manifest(json_path):
        loudness = np.asarray(video.speech, np.float32).mean(1)[:: video.kind.rows_per_frame]
        points = np.tile(rest, (len(loudness), 1, 1))
        points[:, 57:60, 1] += 5 * loudness[:, None]
        points[:, 66, 1] += 5 * loudness
        frames = np.arange(len(points))
        ones = np.ones(len(points))
        table = LandmarkTable(frames, 0 * frames, ones, ones > 0, points)
        write_openface_csv(folder / f"{video.name}.csv", table, 25)


def test_an_audio_encoder_learns_to_read_lips_and_starts_a_generator(tmp_path):
    data = write_training_set(tmp_path / "data", videos=2, clips=20)
    write_landmarks(tmp_path / "landmarks", data)
    audio_command = ("train_audio_encoder.py", "--train_data", data, "--openface_landmark_dir", tmp_path / "landmarks",
                     "--augment_num", 320, "--batch_size", 32, "--val_samples", 128, "--non_decay", 8, "--decay", 0,
                     "--result_path", tmp_path / "audio")  # fmt: skip
    train_here(*audio_command)
    log = [json.loads(line) for line in (tmp_path / "audio/log.jsonl").read_text().splitlines()]
    last = [line for line in log if line["kind"] == "validation"][-1]
    assert last["data"] == "held_out"
    assert last["opening_correlation"] > 0.8
    assert last["lips"] < 0.6 * last["lips_of_rest"]

    encoder = tmp_path / "audio/audio_encoder_model_epoch_8.pth"
    start = ("--train_data", data, "--pretrained_audio_path", encoder, "--lamb_perception", 0, "--lamb_gan", 0,
             "--lamb_mouth", 1, "--lr_g", 0, "--feature_channel", 32, "--result_path", tmp_path / "frame")  # fmt: skip
    train_here(*frame_command(), *start)
    generator = read_checkpoint(tmp_path / "frame/netG_model_epoch_1.pth", "--x")
    learned = read_checkpoint(encoder, "--x").networks["net_a"]
    for key, value in generator.networks["net_g"].items():
        if key.startswith("audio_encoder.") and key.endswith(".weight"):
            assert torch.equal(value, learned[key])
    assert generator.metadata.feature_channel == 32

    with pytest.raises(UserError, match=r"^--openface_landmark_dir: there is no video0.csv in .*--detect_landmark"):
        train_here(*audio_command, "--openface_landmark_dir", tmp_path, "--result_path", tmp_path / "other")


def test_a_mouth_reader_learns_and_shows_a_generator_the_lips(tmp_path):
    data = write_training_set(tmp_path / "data", videos=2, clips=20)
    write_landmarks(tmp_path / "landmarks", data)
    reader_command = ("train_mouth_reader.py", "--train_data", data, "--openface_landmark_dir", tmp_path / "landmarks",
                      "--augment_num", 160, "--batch_size", 16, "--val_samples", 16, "--non_decay", 3, "--decay", 2,
                      "--mouth_region_size", 32, "--cache", "ram",
                      "--result_path", tmp_path / "mouth_reader_training")  # fmt: skip
    train_here(*reader_command)
    log = [json.loads(line) for line in (tmp_path / "mouth_reader_training/log.jsonl").read_text().splitlines()]
    last = [line for line in log if line["kind"] == "validation"][-1]
    assert last["data"] == "held_out"
    assert last["opening_correlation"] > 0.9

    reader = tmp_path / "mouth_reader_training/mouth_reader_model_epoch_5.pth"
    for command, stage in ((frame_command(), "frame"), (clip_command(), "clip")):
        weights = ("--lamb_perception", 0, "--lamb_gan", 0, "--lamb_l1", 1, "--lamb_lips", 0.5)
        train_here(*command, *weights, "--train_data", data, "--pretrained_mouth_reader_path", reader,
                   "--val_data", data, "--val_samples", 2, "--feature_channel", 32, "--result_path", tmp_path / stage,
                   *(("--lamb_syncnet_perception", 0, "--pretrained_frame_DINet_path",
                      tmp_path / "frame/netG_model_epoch_1.pth") if stage == "clip" else ()))  # fmt: skip
        log = [json.loads(line) for line in (tmp_path / stage / "log.jsonl").read_text().splitlines()]
        judged = next(line for line in log if line["kind"] == "validation")
        assert judged["lips"] > 0 and judged["lips_of_mean_reference"] > 0

    train_here("train_audio_encoder.py", *reader_command[1:5], "--augment_num", 4, "--batch_size", 4,
               "--non_decay", 1, "--decay", 0, "--result_path", tmp_path / "audio_encoder_training")  # fmt: skip
    audio2lip = tmp_path / "audio_encoder_training/audio_encoder_model_epoch_1.pth"
    generator = tmp_path / "frame/netG_model_epoch_1.pth"
    by_hand = ("--lip_amplitude", 2, "--unpaired_audio", 0.5, "--pretrained_mouth_reader_path", reader)
    supervised = {
        "frame": (*frame_command(), "--lip_supervision", tmp_path),
        "clip": (*clip_command(), *by_hand, "--pretrained_audio2lip_path", audio2lip, "--lamb_syncnet_perception", 0,
                 "--pretrained_frame_DINet_path", generator),
    }  # fmt: skip
    for stage, command in supervised.items():
        train_here(*command, "--train_data", data, "--lamb_perception", 0, "--feature_channel", 32,
                   "--result_path", tmp_path / f"supervised_{stage}")  # fmt: skip
        assert (tmp_path / f"supervised_{stage}/netG_model_epoch_1.pth").is_file()
        log = (tmp_path / f"supervised_{stage}/log.jsonl").read_text().splitlines()
        assert json.loads(log[1])["lips"] > 0
    with pytest.raises(UserError, match=r"^--pretrained_audio2lip_path: .* \(net_a\) is needed"):
        train_here(*frame_command(), *by_hand, "--pretrained_audio2lip_path", generator, "--lamb_perception", 0,
                   "--train_data", data, "--result_path", tmp_path / "other")  # fmt: skip
    with pytest.raises(
        UserError, match=r"^--pretrained_mouth_reader_path: .* a lip shape regressor \(net_m\) is needed"
    ):
        train_here(*frame_command(), "--train_data", data, "--pretrained_mouth_reader_path", generator,
                   "--lamb_perception", 0, "--result_path", tmp_path / "other")  # fmt: skip
    with pytest.raises(UserError, match=r"^--freeze_norms: needs weights to start from"):
        train_here(*frame_command(), "--train_data", data, "--lamb_perception", 0, "--freeze_norms",
                   "--result_path", tmp_path / "other")  # fmt: skip
    with pytest.raises(UserError, match=r"^--openface_landmark_dir: there is no video0.csv in .*--detect_landmark"):
        train_here(*reader_command, "--openface_landmark_dir", tmp_path, "--result_path", tmp_path / "other")


def test_a_narrow_generator_keeps_its_width_from_stage_to_stage(there):
    narrow = (*SMALL, "--augment_num", 1, "--batch_size", 2, "--max_steps", 1, "--perceptual_weights",
              "torch/hub/checkpoints/vgg19-dcbb9e9d.pth")  # fmt: skip
    train_here("train_DINet_frame.py", *narrow, "--feature_channel", 32, "--result_path", "coarse")
    coarse = "coarse/netG_model_epoch_1.pth"
    train_here("train_DINet_frame.py", *narrow, "--coarse2fine", "--coarse_model_path", coarse, "--result_path", "fine")
    train_here("train_DINet_clip.py", *narrow, "--pretrained_frame_DINet_path", coarse, "--result_path", "clip",
               "--lamb_syncnet_perception", 0)  # fmt: skip
    for folder in ("fine", "clip"):
        checkpoint = read_checkpoint(f"{folder}/netG_model_epoch_1.pth", "--x")
        assert checkpoint.metadata.feature_channel == 32
        assert len(checkpoint.networks["net_g"]["source_in_conv.2.conv.weight"]) == 32
    with pytest.raises(UserError, match=r"^--coarse_model_path: .* was trained with feature_channel 32, not 64; "):
        train_here("train_DINet_frame.py", *narrow, "--feature_channel", 64, "--coarse2fine", "--coarse_model_path",
                   coarse, "--result_path", "other")  # fmt: skip


def test_the_demo_weights_are_fitted_to_new_people(tmp_path, monkeypatch):
    """The README's options in a file, but for the data and for VGG19, which is not here."""
    path = write_training_set(tmp_path / "data", videos=1, kind="whisper")
    monkeypatch.chdir(PROJECT)
    data = ("--train_data", path, "--result_path", tmp_path / "out", "--lamb_perception", 0, "--max_steps", 1)
    train_here("train_DINet_frame.py", "@asserts/demo/fine_tune.txt", *data)
    (fitted,) = (tmp_path / "out").glob("*.pth")
    before, after = (read_checkpoint(name, "--x") for name in (SHIPPED_WEIGHTS, fitted))
    assert after.metadata == before.metadata and after.metadata.max_audio_norm
    own, new = before.networks["net_g"], after.networks["net_g_ema"]
    changed = {name.split(".")[0] for name, value in new.items() if not torch.equal(value, own[name].to(value.dtype))}
    assert "out_conv" in changed and "audio_encoder" not in changed


def test_a_users_mistake_is_one_line_and_status_2(there):
    line = run_script(PROJECT / "train_syncnet.py", "--train_data", "nowhere.json", status=2)
    assert line.count("\n") == 1
    assert line.startswith("train_syncnet.py: error: --train_data: nowhere.json does not exist; make it with")
    assert not (there / "asserts/training_model_weight/syncnet_training").exists()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--lip_amplitude=2"], r"^--lip_amplitude and --unpaired_audio: need the lip loss and a network"),
        (["--unpaired_audio=0.5", "--pretrained_audio2lip_path=x.pth"], r"add --lip_supervision FOLDER, or"),
        (["--pretrained_audio2lip_path=x.pth"], r"^--pretrained_audio2lip_path: has no effect without"),
        (["--lip_supervision=nowhere"], r"^--lip_supervision: there is no mouth_reader.pth or .*train_mouth_reader.py"),
    ],
)
def test_lip_supervision_without_what_it_needs_is_refused(options, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=line) as caught:
        train_here("train_DINet_clip.py", *options)
    assert "\n" not in str(caught.value)


def test_one_set_of_references_may_serve_several_frames(there):
    losses = ("--lamb_perception", 0, "--lamb_mouth", 1, "--feature_channel", 32)
    train_here(*frame_command(*losses, "--batch_size", 1, "--frames_per_sample", 2, "--max_steps", 2,
                              "--val_samples", 2,
                              "--val_data", "asserts/training_data/training_json.json"))  # fmt: skip
    log = [json.loads(line) for line in Path("out/log.jsonl").read_text().splitlines()]
    assert {"mouth", "g_dI"} <= log[1].keys() and any(line["kind"] == "validation" for line in log)


def test_the_next_stage_starts_from_the_average(there):
    narrow = (*SMALL, "--augment_num", 1, "--batch_size", 2, "--lamb_perception", 0, "--feature_channel", 32)
    train_here("train_DINet_frame.py", *narrow, "--max_steps", 2, "--ema", 0.5, "--result_path", "first")
    first = "first/netG_model_epoch_2.pth"
    train_here("train_DINet_frame.py", *narrow, "--max_steps", 1, "--lr_g", 0, "--coarse2fine", "--coarse_model_path",
               first, "--result_path", "second")  # fmt: skip
    start, then = read_checkpoint(first, "--x").networks, read_checkpoint("second/netG_model_epoch_1.pth", "--x")
    key = "source_in_conv.0.conv.weight"
    assert not torch.equal(start["net_g"][key], start["net_g_ema"][key])
    assert torch.equal(then.networks["net_g"][key], start["net_g_ema"][key])


FRAME_WEIGHTS = "asserts/training_model_weight/frame_training_256/xxxxx.pth"


@pytest.mark.parametrize(
    ("command", "match"),
    [
        (frame_command("--coarse2fine"), r"^--coarse2fine: needs --coarse_model_path"),
        (frame_command("--coarse_model_path", "x.pth"), r"^--coarse_model_path: is used with --coarse2fine only"),
        (frame_command("--coarse2fine", "--coarse_model_path", "x.pth"), r"^--coarse_model_path: x.pth does not exist"),
        (frame_command("--coarse2fine", "--coarse_model_path", "sync64.pth"),
         r"^--coarse_model_path: sync64.pth is a SyncNet checkpoint, a DINet generator \(net_g\) is needed"),
        (frame_command("--batch_size", 9), r"^--batch_size: 9 is more than the 2 samples"),
        (frame_command("--batch_size", 1),
         r"^--batch_size: 1 leaves the batch norm a single value per channel at .*; use at least 2"),
        (frame_command("--D_num_blocks", 4),
         r"^--mouth_region_size: 32 has crops of 40 x 52 pixels, .* 4 blocks needs 53 x 53; .* \(--D_num_blocks\)"),
        (clip_command("--D_num_blocks", 4), r"^--mouth_region_size: 32 has crops of 40 x 52 pixels"),
        (frame_command("--amp", "fp16"), r"^--amp: fp16 is for GPUs"),
        (frame_command("--perceptual_weights", "sync64.pth"),
         r"^--perceptual_weights: sync64.pth is not a file of VGG"),
        (clip_command(), r"^--pretrained_frame_DINet_path: is needed to start the clip stage"),
        (clip_command("--pretrained_frame_DINet_path", "x.pth"), r"^--pretrained_frame_DINet_path: x.pth does not"),
        (clip_command("--pretrained_frame_DINet_path", "sync64.pth"), r"mouth_region_size 64, not 32"),
        (clip_command("--pretrained_syncnet_path", "none.pth"), r"^--pretrained_syncnet_path: none.pth .*syncnet"),
        (clip_command("--pretrained_syncnet_path", FRAME_WEIGHTS), r"is a DINet checkpoint .* a SyncNet"),
        (clip_command("--pretrained_syncnet_path", "sync64.pth"), r"was trained with mouth_region_size 64, not 32"),
        (sync_command("--train_data", FRAME_WEIGHTS), r"^--train_data: .* is not a training json"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_named(command, match, there):
    with pytest.raises(UserError, match=match) as caught:
        train_here(*command)
    assert "\n" not in str(caught.value)
    assert not list(there.glob("out/*.pth"))


def test_a_folder_with_checkpoints_is_not_overwritten_and_one_of_another_stage_or_size_not_resumed(there):
    train_here(*sync_command("--max_steps", 1))
    with pytest.raises(UserError, match=r"^--result_path: out holds the checkpoints of a training; continue it with"):
        train_here(*sync_command("--max_steps", 1))
    with pytest.raises(UserError, match=r"mouth_region_size 32, not 64"):
        train_here(*sync_command("--max_steps", 1, "--mouth_region_size", 64, "--resume"))
    shutil.copy(FRAME_WEIGHTS, "out/netG_model_epoch_1.pth")
    with pytest.raises(
        UserError, match=r"^--result_path: .* \(of net_g, net_dI\), one of net_g, net_dI, net_dV is need"
    ):
        train_here(*clip_command("--resume"))


def test_old_checkpoints_go_and_a_shortened_epoch_is_refused(there):
    command = sync_command("--checkpoint_steps", 1, "--keep", 2, "--augment_num", 4)
    train_here(*command, "--max_steps", 3)
    assert {path.name for path in Path("out").glob("*.pth")} == {
        "syncnet_model_epoch_1_step_2.pth",
        "syncnet_model_epoch_1_step_3.pth",
    }
    with pytest.raises(UserError, match="was written at step 3 of an epoch, which has only 2 now"):
        train_here(*command, "--max_steps", 4, "--augment_num", 2, "--resume")


def test_a_full_disk_leaves_the_checkpoint_before(there, monkeypatch):
    train_here(*sync_command("--max_steps", 1))
    good = Path("out/syncnet_model_epoch_1_step_1.pth").read_bytes()

    def full(content, file) -> None:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        UserError, match=r"cannot be written \(No space left.*epoch_1_step_1.pth is intact, continue from"
    ):
        train_here(*sync_command("--max_steps", 2, "--resume"))
    assert [path.name for path in Path("out").iterdir() if "model" in path.name] == ["syncnet_model_epoch_1_step_1.pth"]
    assert Path("out/syncnet_model_epoch_1_step_1.pth").read_bytes() == good


def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_last_checkpoint(there):
    with pytest.raises(UserError, match=r"loss sync is (nan|inf); out/.*_step_\d.pth is the last good checkpoint"):
        train_here(*sync_command("--checkpoint_steps", 1, "--lr", 1e20, "--augment_num", 20))
    last = CheckpointFolder(Path("out"), "syncnet").newest("--x")
    assert all(torch.isfinite(value).all() for value in last.networks[SYNCNET].values())


def test_gradients_that_are_never_finite_stop_the_training(there, monkeypatch):
    monkeypatch.setattr("utils.training.trainer.MAX_SKIPPED_STEPS", 2)
    monkeypatch.setattr("torch.nn.utils.get_total_norm", lambda gradients: torch.tensor(float("nan")))
    with pytest.raises(UserError, match="gradient of net was not finite 3 times in a row; there is no checkpoint yet"):
        train_here(*sync_command())


def test_what_a_checkpoint_does_not_record_is_taken_to_fit(there):
    published = read_checkpoint(FRAME_WEIGHTS, "--x")
    check_metadata(published, Metadata(256, "deepspeech", 29, 1), "--x")
    ours = read_checkpoint("sync64.pth", "--x")
    check_metadata(ours, Metadata(None, "deepspeech", 29, 1), "--x")
    with pytest.raises(UserError, match="audio_feature deepspeech, not mel"):
        check_metadata(ours, Metadata(None, "mel", 80, 4), "--x")
