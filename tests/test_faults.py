"""Faults while the scripts work: killed or asked to end at any moment, a full disk, a folder that cannot be written.

Whatever happens, nothing half-written takes a final name, no leftovers grow, and a second run gives the very bytes of
an undisturbed one.
"""

import contextlib
import io
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.forked import serve

FUZZ = Path(__file__).with_name("fuzz.py")
DUB = ("--source_video_path", "face.mp4", "--driving_audio_path", "speech.wav", "--pretrained_clip_DINet_path",
       "narrow.pth", "--res_video_dir", "out", "--source_openface_landmark_path", "face.csv")  # fmt: skip
JOBS = ("--jobs", "jobs.csv", "--pretrained_clip_DINet_path", "narrow.pth", "--res_video_dir", "out",
        "--landmark_dir", "cache", "--resume")  # fmt: skip
PREPARE = ("--all", "--source_video_dir", "raw", "--workers", "1", "--json_path", "out/set.json")
TRAIN = ("--train_data", "set/training_json.json", "--result_path", "out", "--mouth_region_size", "32",
         "--batch_size", "2", "--augment_num", "3", "--max_steps", "3", "--num_workers", "0", "--resume")  # fmt: skip
EXPORT = ("--checkpoint", "full.pth", "--result_path", "out/small.pth")
COMMANDS = {
    "inference": DUB,
    "jobs": JOBS,
    "data_processing": PREPARE,
    "train_syncnet": TRAIN,
    "train_DINet_frame": (*TRAIN, "--feature_channel", "8", "--D_num_blocks", "3", "--D_block_expansion", "8",
                          "--perceptual_weights", "vgg.pth"),
    "train_DINet_clip": (*TRAIN, "--feature_channel", "8", "--D_num_blocks", "3", "--D_block_expansion", "8",
                         "--perceptual_weights", "vgg.pth", "--pretrained_syncnet_path", "sync.pth",
                         "--pretrained_frame_DINet_path", "full.pth"),
}  # fmt: skip
SCRIPT = {"jobs": "inference"}
GRACE_SECONDS = 5
LOADED = float(os.environ.get("DINET_TEST_SLACK", "3"))
"""How much longer things take where other programs use the processor."""


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Path:
    """The sample files of the fuzzer."""
    folder = tmp_path_factory.mktemp("samples")
    code = f"import sys; sys.path.insert(0, {str(FUZZ.parent)!r}); import fuzz, pathlib; fuzz.preload(); " + (
        f"fuzz.make_samples(pathlib.Path({str(folder)!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=FUZZ.parents[1])
    return folder


@pytest.fixture(scope="module")
def server(samples):
    """A process that has everything imported and forks the scripts from there."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,), daemon=False)
    process.start()
    theirs.close()  # so that a server that dies is an error here, not a wait without end

    def run(name: str, folder: Path, **options):
        ours.send((SCRIPT.get(name, name), list(COMMANDS.get(name, EXPORT)), folder, options))
        return ours.recv()

    yield run
    ours.send(None)
    process.join(20)


@pytest.fixture
def folder(samples, tmp_path) -> Path:
    target = tmp_path / "run"
    shutil.copytree(samples, target)
    return target


def results(folder: Path) -> dict[str, bytes]:
    """The finished results, without what tells times."""
    found = {}
    for top in ("out", "asserts"):
        for path in sorted((folder / top).rglob("*")):
            if path.is_file() and path.name not in ("log.jsonl",) and ".records" not in path.parts:
                found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def leftovers(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.name.endswith(".partial") and path.is_file()]


@pytest.fixture(scope="module")
def undisturbed(server, samples, tmp_path_factory):
    """Results and seconds of each command where nothing happens."""
    known = {}

    def get(name: str):
        if name not in known:
            folder = tmp_path_factory.mktemp("undisturbed") / "run"
            shutil.copytree(samples, folder)
            ended = server(name, folder)
            assert ended.status == 0, ended.errors
            known[name] = results(folder), ended.seconds
        return known[name]

    return get


FAST = ["inference"]
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS if name not in FAST]


@pytest.mark.parametrize("name", [*FAST, *SLOW])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_one_line_and_leaves_nothing_half_written(server, undisturbed, folder, name, number):
    whole, seconds = undisturbed(name)
    random = np.random.default_rng(number)
    for moment in random.uniform(0.05, 0.9, 2):
        ended = server(name, folder, signal_number=number, signal_seconds=seconds * moment)
        if ended.status == 0:
            break  # it was done
        assert ended.status == 128 + number, ended.errors
        assert "Traceback" not in ended.errors, ended.errors
        assert ended.seconds < seconds * moment + GRACE_SECONDS * LOADED
        assert not leftovers(folder)
        assert_same_results(
            {key: data for key, data in results(folder).items() if key in whole}, whole, all_there=False
        )
    ended = server(name, folder)
    assert ended.status == 0, ended.errors
    assert_same_results(results(folder), whole)


@pytest.mark.parametrize("name", [*FAST, *SLOW])
def test_a_killed_run_is_made_good_by_the_next(server, undisturbed, folder, name):
    whole, seconds = undisturbed(name)
    random = np.random.default_rng(5)
    for moment in random.uniform(0.05, 0.95, 4):
        ended = server(name, folder, signal_number=signal.SIGKILL, signal_seconds=seconds * moment)
        assert ended.status in (0, -signal.SIGKILL), ended.errors
        assert_same_results(
            {key: data for key, data in results(folder).items() if key in whole}, whole, all_there=False
        )
    ended = server(name, folder)
    assert ended.status == 0, ended.errors
    assert_same_results(results(folder), whole)
    assert not leftovers(folder)


def assert_same_results(found: dict[str, bytes], whole: dict[str, bytes], all_there: bool = True) -> None:
    """What is there is the same, byte for byte; checkpoints by the values in them."""
    missing = [key for key in whole if key not in found and "_step_" not in key]
    assert not (all_there and missing)
    for key, data in whole.items():
        if key not in found or found[key] == data:
            continue
        if key.endswith(".pth"):
            same_checkpoint(found[key], data, key)
        else:
            same_frames(found[key], data, key)


def same_frames(one: bytes, two: bytes, name: str) -> None:
    """Dubs may differ by rounding: each process chooses the way of its convolutions by their speed."""
    assert name.endswith(".mp4") and "facial_dubbing" in name, f"{name} is another file"
    first, second = (
        [frame.to_ndarray(format="gray").astype(int) for frame in av.open(io.BytesIO(data)).decode(video=0)]
        for data in (one, two)
    )
    assert len(first) == len(second)
    assert np.abs(np.stack(first) - np.stack(second)).mean() < 0.5, name


def same_checkpoint(one: bytes, two: bytes, name: str) -> None:
    import torch

    first, second = (torch.load(io.BytesIO(data), weights_only=True)["state_dict"] for data in (one, two))
    for network in first:
        for key, value in first[network].items():
            assert torch.equal(value, second[network][key]), f"{name}: {key}"


@pytest.mark.parametrize("name", ["inference", "export_weights", *SLOW])
def test_a_full_disk_is_one_line_and_costs_nothing(server, undisturbed, folder, name):
    script = SCRIPT.get(name, name)
    if name == "export_weights":
        (folder / "out").mkdir()
        (folder / "out" / "small.pth").write_bytes(b"an earlier result")
    before = results(folder)
    for size in (4096, 9000):
        ended = server(name, folder, file_bytes=size)
        assert ended.status in (1, 2), (size, ended.errors)
        assert "Traceback" not in ended.errors, ended.errors
        assert "File too large" in ended.errors or "skipped" in ended.errors, ended.errors
        assert not leftovers(folder)
        assert all(results(folder).get(key) == data for key, data in before.items())
    if name != "export_weights":
        ended = server(name, folder)
        assert ended.status == 0, ended.errors
        assert_same_results(results(folder), undisturbed(name)[0])
    assert script


def test_two_runs_with_one_result_and_one_cache_at_once(samples, folder, undisturbed):
    whole, _ = undisturbed("inference")
    command = [sys.executable, FUZZ.parents[1] / "inference.py", *DUB]
    started = time.monotonic()
    runs = [subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [run.communicate(timeout=400)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], (errors, time.monotonic() - started)
    assert_same_results(results(folder), whole)
    assert not leftovers(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_one_line(server, folder):
    (folder / "out").mkdir()
    (folder / "out").chmod(0o500)
    with contextlib.ExitStack() as stack:
        stack.callback((folder / "out").chmod, 0o700)
        ended = server("inference", folder)
    assert ended.status == 2 and "cannot write" in ended.errors
