"""Faults while the scripts work: killed or asked to end at any moment, a full disk, a folder that cannot be written.

Whatever happens, nothing half-written takes a final name, no leftovers grow, no process stays, and a run after it all
gives what an undisturbed one gives: the same bytes, or for dubs and weights the same pictures and numbers.

DINET_FAULTS=N runs N faults of each kind, of every command, in place of the one or two that the gate has time for.
"""

import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from helpers.browser import open_browser, require_browser
from helpers.forked import Ended, Fault, serve
from helpers.landmarks import speaking_face
from helpers.sample_media import write_face_video, write_speech

from utils.face.openface_csv import write_openface_csv
from utils.training.checkpoint_folder import CheckpointFolder

ROOT = Path(__file__).parents[1]
FUZZ = Path(__file__).with_name("fuzz.py")
WEIGHTS = ("--pretrained_clip_DINet_path", "narrow.pth", "--res_video_dir", "out", "--landmark_dir", "cache")
DUB = ("--source_video_path", "face.mp4", "--driving_audio_path", "speech.wav",
       "--source_openface_landmark_path", "face.csv", *WEIGHTS)  # fmt: skip
TRAIN = ("--train_data", "set/training_json.json", "--result_path", "out", "--mouth_region_size", "32",
         "--batch_size", "2", "--augment_num", "3", "--max_steps", "3", "--checkpoint_steps", "1", "--keep", "2",
         "--num_workers", "0", "--resume")  # fmt: skip
LIPS = (*TRAIN, "--openface_landmark_dir", "landmarks")
DINET = (*TRAIN, "--feature_channel", "8", "--D_num_blocks", "3", "--D_block_expansion", "8",
         "--perceptual_weights", "vgg.pth")  # fmt: skip
COMMANDS = {
    "inference": DUB,
    "jobs": ("--jobs", "jobs.csv", *WEIGHTS, "--resume"),
    "fit": ("--source_video_path", "person.mp4", "--driving_audio_path", "speech.wav", "--fit", "0.02", "--fitted_dir",
            "out", "--source_openface_landmark_path", "person.csv", *WEIGHTS),
    "data_processing": ("--all", "--source_video_dir", "raw", "--workers", "1", "--json_path", "out/set.json"),
    "evaluate": ("--generated", "face.mkv", "--reference", "face.mp4", "--result_dir", "out", "--landmark_dir", "cache",
                 "--workers", "1"),
    "export_weights": ("--checkpoint", "full.pth", "--result_path", "out/small.pth"),
    "train_syncnet": TRAIN,
    "train_audio_encoder": LIPS,
    "train_mouth_reader": LIPS,
    "train_DINet_frame": DINET,
    "train_DINet_clip": (*DINET, "--pretrained_syncnet_path", "sync.pth", "--pretrained_frame_DINet_path", "full.pth"),
}  # fmt: skip
SCRIPT = {"jobs": "inference", "fit": "inference"}
MANY = int(os.environ.get("DINET_FAULTS", "0"))
FAST = "inference"
SLOW = ("jobs", "data_processing", "evaluate", "train_DINet_clip")
"""In the gate; the other trainings run the same loop. See test_training_resume.py and test_fitting.py, too."""
PAGE = 4096
"""Bytes that a disk gives at a time."""
GRACE_SECONDS = 5
LOADED = float(os.environ.get("DINET_TEST_SLACK", "3"))
"""How much longer things take where other programs use the processor."""


def names(*slow: str) -> list:
    """Commands of a test: the fast one, and those marked slow; all, where many faults are wanted."""
    chosen = [name for name in COMMANDS if name != FAST] if MANY else slow
    return [FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in chosen)]


@pytest.fixture(scope="module", autouse=True)
def count_of_faults():
    """With DINET_FAULTS, print how many faults of each kind hit a script that was at work."""
    yield COUNTS
    for (name, kind), count in sorted(COUNTS.items()) if MANY else []:
        sys.__stderr__.write(f"faults: {name} {kind} {count}\n")


COUNTS: Counter = Counter()


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Path:
    """The sample files of the fuzzer, and a video that is long enough to fit weights to."""
    folder = tmp_path_factory.mktemp("samples")
    code = f"import sys; sys.path.insert(0, {str(FUZZ.parent)!r}); import fuzz, pathlib; fuzz.preload(); " + (
        f"fuzz.make_samples(pathlib.Path({str(folder)!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    write_face_video(folder / "person.mp4", 80, size=256, audio=write_speech(folder / "talk.wav", 3.2))
    write_openface_csv(folder / "person.csv", speaking_face(4 + 4 * np.sin(np.arange(80) / 3)), 25)
    return folder


@pytest.fixture(scope="module")
def server(samples):
    """A process that has everything imported and forks the scripts from there."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,), daemon=False)
    process.start()
    theirs.close()  # so that a server that dies is an error here, not a wait without end

    def run(name: str, folder: Path, fault: Fault = Fault(), times: int = 1) -> Ended | list[Ended]:  # noqa: B008
        ours.send([(SCRIPT.get(name, name), COMMANDS[name], folder, {"fault": fault})] * times)
        ended = ours.recv()
        return ended if times > 1 else ended[0]

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
            assert not ended.left_running
            known[name] = results(folder), ended.seconds
        return known[name]

    return get


def assert_same_results(found: dict[str, bytes], whole: dict[str, bytes], all_there: bool = True) -> None:
    """What is there is the same, byte for byte; dubs, weights and reports by what is in them."""
    missing = [key for key in whole if key not in found and "_step_" not in key]
    assert not (all_there and missing)
    for key, data in whole.items():
        if key not in found or found[key] == data:
            continue
        if "person" in key:
            assert found[key], f"{key} is empty"  # how far a fit comes depends on the speed of the machine
        elif key.endswith(".pth"):
            same_checkpoint(found[key], data, key)
        elif key.endswith("results.json"):
            same_scores(json.loads(found[key]), json.loads(data), key)
        else:
            same_frames(found[key], data, key)


def same_frames(one: bytes, two: bytes, name: str) -> None:
    """Dubs may differ by rounding: each process chooses the way of its convolutions by their speed."""
    assert name == "out/a.mp4" or name.endswith("facial_dubbing_add_audio.mp4"), f"{name} is another file"
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


def same_scores(one: dict, two: dict, name: str) -> None:
    for report in (one, two):
        del report["time"]
    assert one == two, name


def meet(run: Callable, name: str, kind: str, fault: Fault, folder: Path, whole: dict[str, bytes]) -> bool:
    """Let a script meet a fault, and look at how it ends and what it leaves; False if it was done before."""
    before = set(leftovers(folder))
    ended = run(name, folder, fault)
    assert not ended.out_of_time and not ended.left_running, (name, fault, ended)
    assert "Traceback" not in ended.errors, (name, fault, ended.errors)
    assert_same_results(results(folder), whole, all_there=ended.status == 0)
    new = set(leftovers(folder)) - before
    assert len(new) <= 1 if kind == "kill" else not new, (name, fault, new)
    if ended.status == 0:  # it was done before, or the disk was large enough
        shutil.rmtree(folder / "out")
        return False
    COUNTS[name, kind] += 1
    if kind == "kill":
        assert ended.status == -signal.SIGKILL, (name, fault, ended.errors)
    elif fault.signal_number:
        assert ended.status == 128 + fault.signal_number, (name, fault, ended.errors)
        assert ended.seconds < fault.signal_seconds + GRACE_SECONDS * LOADED
    else:
        assert ended.status in (1, 2), (name, fault, ended.errors)
        assert re.search("File too large|No space left|skipped|failed", ended.errors), (name, fault, ended.errors)
    return True


def drawn_faults(seconds: float, kinds: str, count: int) -> list[tuple[str, Fault]]:
    """Kills and signals at random moments of a run that takes so many seconds."""
    random = np.random.default_rng(5)
    numbers = {"kill": signal.SIGKILL, "sigterm": signal.SIGTERM, "ctrl-c": signal.SIGINT}
    return [
        # kill PID reaches the script alone, Ctrl-C all that it has started
        (kind, Fault(numbers[kind], seconds * random.uniform(0.05, 0.95), alone=kind != "ctrl-c" and index % 2 == 0))
        for index in range(count)
        for kind in kinds.split()
    ]


@pytest.mark.parametrize("name", names(*SLOW))
def test_whatever_happens_on_the_way_the_next_run_makes_it_good(server, undisturbed, folder, name):
    whole, seconds = undisturbed(name)
    faults = [("full disk", Fault(file_bytes=4096)), *drawn_faults(seconds, "kill sigterm kill ctrl-c", max(1, MANY))]
    for kind, fault in faults:
        if not meet(server, name, kind, fault, folder, whole):  # what earlier runs have cached makes it faster
            meet(server, name, kind, replace(fault, signal_seconds=fault.signal_seconds / 4), folder, whole)
    ended = server(name, folder)
    assert ended.status == 0, ended.errors
    assert_same_results(results(folder), whole)
    assert not leftovers(folder)
    assert not [path for path in folder.rglob(".partial") if path.is_dir()]


def test_a_full_disk_leaves_the_earlier_result(server, folder):
    (folder / "out").mkdir()
    (folder / "out" / "small.pth").write_bytes(b"an earlier result")
    for size in (4096, 9000):
        ended = server("export_weights", folder, Fault(file_bytes=size))
        assert ended.status == 2 and "File too large" in ended.errors
        assert results(folder) == {"out/small.pth": b"an earlier result"} and not leftovers(folder)


@pytest.fixture
def small_disk(folder):
    """Set the size of the disk on which `folder` lies, in bytes."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "none", str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("name", names("jobs", "data_processing"))
def test_a_disk_that_fills_up_at_any_write(server, undisturbed, samples, folder, small_disk, name):
    whole, _ = undisturbed(name)
    shutil.copytree(samples, folder, dirs_exist_ok=True)
    needed = sum(len(data) + PAGE for data in whole.values())
    for share in np.random.default_rng(6).uniform(0, 0.8, max(2, MANY)):
        small_disk(shutil.disk_usage(folder).used + PAGE + int(share * needed) // PAGE * PAGE)
        meet(server, name, "full disk", Fault(), folder, whole)
    small_disk(1 << 30)
    ended = server(name, folder)
    assert ended.status == 0, ended.errors
    assert_same_results(results(folder), whole)


@pytest.mark.parametrize("name", names(*SLOW))
def test_folders_that_cannot_be_written(server, folder, name):
    for top in ("out", "cache", "asserts"):
        (folder / top).mkdir(exist_ok=True)
        (folder / top).chmod(0o500)
    ended = server(name, folder, Fault(obey_permissions=True))
    COUNTS[name, "read-only folder"] += 1
    assert ended.status == 2 and "Traceback" not in ended.errors, ended.errors
    errors = [line for line in ended.errors.splitlines() if "error: " in line]
    assert len(errors) == 1 and re.search(r"(cannot write|Permission denied).*; ", errors[0]), ended.errors


@pytest.mark.parametrize("name", names("data_processing", "train_DINet_frame"))
def test_a_clock_that_goes_back(server, undisturbed, folder, name):
    whole, _ = undisturbed(name)
    for path in folder.rglob("*"):
        os.utime(path, (time.time() + 10**7,) * 2)  # made when the clock was ahead
    for back in (3600.0, 10.0**9) if MANY else (3600.0,):
        ended = server(name, folder, Fault(clock_back=back))
        COUNTS[name, "clock set back"] += 1
        assert ended.status == 0, ended.errors
        assert_same_results(results(folder), whole)


@pytest.mark.parametrize("name", names("jobs", "data_processing", "train_DINet_frame"))
def test_runs_with_one_result_and_one_cache_at_once(server, undisturbed, folder, name):
    whole, _ = undisturbed(name)
    for ended in server(name, folder, times=2):
        COUNTS[name, "two runs at once"] += 1
        assert ended.status == 0, ended.errors
        assert "Traceback" not in ended.errors and not ended.left_running
    assert_same_results(results(folder), whole)
    assert not leftovers(folder)


def flip_a_bit(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 16]) + data[middle + 1 :]


DAMAGE = {
    "cut": lambda data: data[: len(data) // 3],
    "flipped": flip_a_bit,
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in COMMANDS if name.startswith("train_")] if MANY else ["train_mouth_reader"]
)
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(server, undisturbed, folder, name):
    whole, _ = undisturbed(name)
    assert server(name, folder).status == 0
    for kind, damage in DAMAGE.items() if MANY else [("flipped", flip_a_bit)]:
        prefix = next((folder / "out").glob("*.pth")).name.split("_model_")[0]
        newest = CheckpointFolder(folder / "out", prefix).paths()[-1]
        newest.write_bytes(damage(newest.read_bytes()))
        ended = server(name, folder)
        COUNTS[name, "damaged checkpoint"] += 1
        assert ended.status == 0, (kind, ended.errors)
        assert f"{newest.name}" in ended.errors and "trying the one before" in ended.errors, (kind, ended.errors)
        assert_same_results(results(folder), whole)


class Page:
    """app.py as a user starts it."""

    def __init__(self, folder: Path):
        command = [sys.executable, ROOT / "app.py", "--port", "0", "--page_dir", "page", "--device", "cpu"]
        self.process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.lines = []
        for line in self.process.stderr:
            self.lines.append(line)
            if "the page: " in line:
                break

    def end(self, number: int) -> tuple[int, float, str]:
        """Send a signal; returns (status, seconds until it ended, what it said)."""
        start = time.monotonic()
        self.process.send_signal(number)
        rest = self.process.communicate(timeout=60)[1]
        return self.process.returncode, time.monotonic() - start, "".join(self.lines) + rest


@pytest.mark.slow
def test_the_page_ends_when_asked_and_clears_up_what_a_killed_one_left(tmp_path):
    pytest.importorskip("gradio", reason="needs requirements-app.txt")
    kept = tmp_path / "page" / "files" / "kept.txt"
    for kind, number in (("kill", signal.SIGKILL), ("sigterm", signal.SIGTERM), ("ctrl-c", signal.SIGINT))[: MANY or 2]:
        page = Page(tmp_path)
        assert page.process.poll() is None, page.lines
        assert not kept.exists()  # the one that a killed page left
        kept.write_text("an upload")
        status, seconds, errors = page.end(number)
        COUNTS["app", kind] += 1
        assert status == (-number if kind == "kill" else 128 + number), errors
        assert seconds < GRACE_SECONDS * LOADED and "Traceback" not in errors, errors
        assert (tmp_path / "page").exists() == (kind == "kill")


@pytest.mark.slow
def test_a_page_killed_during_a_dub_leaves_nothing_to_the_next_one(tmp_path):
    pytest.importorskip("gradio", reason="needs requirements-app.txt")
    require_browser()
    video, speech = write_face_video(tmp_path / "face.mp4", frames=12), write_speech(tmp_path / "long.wav", 40.0)
    kept = tmp_path / "page" / "files"
    for _ in range(MANY or 1):
        page = Page(tmp_path)
        with open_browser(page.lines[-1].split("the page: ")[1].strip()) as browser:
            browser.upload("#source-video", video)
            browser.upload("#speech-audio", speech)
            browser.wait(lambda: browser.all("#faces button img"), 60, "thumbnails of faces")
            browser.click("#dub")
            browser.wait(lambda: browser.text("#status").startswith("Dubbing"), 60, "progress")
            browser.wait(lambda: any(each.is_file() for each in kept.glob("results/**/*")), 20, "a result begun")
            workers = psutil.Process(page.process.pid).children(recursive=True)
            status, _, errors = page.end(signal.SIGKILL)
        COUNTS["app", "kill during a dub"] += 1
        assert status == -signal.SIGKILL, errors
        assert not psutil.wait_procs(workers, timeout=GRACE_SECONDS * LOADED)[1]
        following = Page(tmp_path)
        assert following.process.poll() is None, following.lines
        assert not [path for path in kept.rglob("*") if path.is_file()]
        assert following.end(signal.SIGTERM)[0] == 128 + signal.SIGTERM
        assert not (tmp_path / "page").exists()
