"""Killed, sent to a cluster, fed a million frames: the same result."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from helpers.deepspeech_graph import write_frozen_graph
from helpers.sample_media import write_face_video, write_speech

from dataset.manifest import read_manifest
from utils.data_processing.video_cutting import resample_video
from utils.face.landmarks import follow_face
from utils.face.tracker import FaceTracker
from utils.media.audio import load_waveform
from utils.media.video_reader import VideoReader

ROOT = Path(__file__).parent.parent
DATA = Path("asserts/training_data")
STEPS = "--all --extract_video_frame --split_scene --workers 2"
FOLDERS_IN_ORDER = (
    "split_video_25fps",
    "split_scene_25fps",
    "split_video_25fps_frame",
    "split_video_25fps_audio",
    "split_video_25fps_mel",
    "split_video_25fps_landmark_openface",
    "split_video_25fps_crop_face",
)


def command(raw: Path, more: str = "") -> list:
    return [sys.executable, ROOT / "data_processing.py", *STEPS.split(), "--source_video_dir", raw, *more.split()]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same_files(folder: Path, other: Path) -> None:
    mine, theirs = snapshot(folder), snapshot(other)
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if mine[name] != theirs[name]] == []


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("media") / "raw"
    folder.mkdir()
    speech = write_speech(folder.parent / "speech.wav", 6.0)
    write_face_video(folder / "one.mp4", 180, rate=30, audio=speech)
    write_face_video(folder / "two.mp4", 180, rate=30, audio=speech)
    return folder


@pytest.fixture(scope="module")
def undisturbed(raw, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    subprocess.run(command(raw), cwd=folder, check=True, capture_output=True)
    return folder / DATA


@pytest.mark.slow
def test_killed_in_every_step_and_started_again_the_bytes_are_the_same(raw, undisturbed, tmp_path):
    interrupted = []
    for folder in FOLDERS_IN_ORDER:
        process = subprocess.Popen(command(raw), cwd=tmp_path, stderr=subprocess.DEVNULL)
        partial = tmp_path / DATA / folder / ".partial"
        while process.poll() is None and not (partial.is_dir() and any(partial.iterdir())):
            time.sleep(0.002)
        workers = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(workers, timeout=5)
        assert not alive  # they end with the process that started them
        if partial.is_dir() and any(partial.iterdir()):
            interrupted.append(folder)
    assert set(interrupted) >= set(FOLDERS_IN_ORDER) - {"split_video_25fps_audio", "split_scene_25fps"}, interrupted
    run = subprocess.run(command(raw), cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "0 there already" in run.stderr and " 2 there already" in run.stderr
    assert_same_files(tmp_path / DATA, undisturbed)


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_with_one_line(raw, tmp_path):
    process = subprocess.Popen(command(raw), cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    partial = tmp_path / DATA / "split_video_25fps" / ".partial"
    while process.poll() is None and not partial.is_dir():
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert process.returncode == 130 and not alive
    assert "Traceback" not in errors, errors


@pytest.mark.slow
def test_a_worker_that_dies_is_one_line(raw, tmp_path):
    process = subprocess.Popen(command(raw), cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    partial = tmp_path / DATA / "split_video_25fps" / ".partial"
    while process.poll() is None and not (partial.is_dir() and any(partial.iterdir())):
        time.sleep(0.01)
    workers = []
    while process.poll() is None and not workers:
        children = psutil.Process(process.pid).children()
        workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    workers[0].kill()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2 and "a worker process died" in errors and "Traceback" not in errors, errors


@pytest.mark.slow
def test_two_dask_workers_give_the_same_bytes(raw, undisturbed, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        run = subprocess.run(
            command(raw, f"--dask_scheduler {cluster.scheduler_address}"), cwd=tmp_path, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
    assert_same_files(tmp_path / DATA, undisturbed)


@pytest.mark.slow
def test_no_dask_scheduler_is_one_line(raw, tmp_path):
    pytest.importorskip("distributed")
    executable, _, *options = command(raw, "--dask_scheduler tcp://127.0.0.1:1")
    code = "import data_processing, utils.executors as e; e._CONNECT_SECONDS = 1; data_processing.command()"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [executable, "-c", code, *options], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 2
    assert "--dask_scheduler: no Dask scheduler answers" in run.stderr and "Traceback" not in run.stderr


MILLION_FRAMES = """
import re, sys, time
from pathlib import Path
import data_processing
from dataset.manifest import read_manifest
begin = time.process_time()
sys.argv = ["data_processing.py", "--generate_training_json", "--audio_feature", "mel"]
assert data_processing.main() == 0
written = time.process_time()
videos = read_manifest(Path("asserts/training_data/training_json.json"))
opened = time.process_time()
frames = sum(len(clip.frame_paths) for video in videos for clip in video.clips)
# Not ru_maxrss: it begins with the memory of the process that started this one.
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
print(frames, written - begin, opened - written, peak / 2**20)
"""


@pytest.mark.slow
def test_a_manifest_of_a_million_frames(tmp_path):
    """250 videos as --crop_face leaves them: folders of clips and records. The crops themselves are not looked at."""
    clips = 1_000_000 // 9 // 250
    for video in range(250):
        crops = tmp_path / DATA / "split_video_25fps_crop_face" / f"WDA_SomeSpeaker{video:03d}_0"
        crops.mkdir(parents=True)
        for clip in range(clips):
            (crops / f"{clip:06d}").mkdir()
        record = crops.parent / ".records" / f"{crops.name}.json"
        record.parent.mkdir(exist_ok=True)
        result = {"frames": clips * 9, "clips": list(range(clips)), "causes": {}}
        record.write_text(json.dumps({"made_from": {"clip_length": 9}, "result": result}))
        features = tmp_path / DATA / "split_video_25fps_mel" / f"{crops.name}_mel.npy"
        features.parent.mkdir(exist_ok=True)
        np.save(features, np.zeros((clips * 36, 80), np.float16))
    run = subprocess.run(
        [sys.executable, "-c", MILLION_FRAMES],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    frames, seconds_writing, seconds_reading, gigabytes = map(float, run.stdout.split())
    print(f"written in {seconds_writing:.1f} s, opened in {seconds_reading:.1f} s, {gigabytes:.2f} GB at most")
    assert frames >= 999_000
    assert seconds_writing + seconds_reading < 15 and gigabytes < 2  # of the processor: other work may share it


@pytest.mark.slow
def test_the_published_command_lines_run_as_written(raw, tmp_path):
    """From the README of the original: videos, OpenFace's csv and the graph in their default folders."""
    videos = tmp_path / DATA / "split_video_25fps"
    videos.mkdir(parents=True)
    write_face_video(videos / "one.mp4", 30, audio=raw.parent / "speech.wav")
    write_frozen_graph(tmp_path / "asserts" / "output_graph.pb")
    (tmp_path / "data_processing.py").symlink_to(ROOT / "data_processing.py")
    steps = ["--detect_landmark"]  # in OpenFace's place
    steps += ["--extract_video_frame", "--extract_audio", "--extract_deep_speech", "--crop_face"]
    for step in [*steps, "--generate_training_json"]:
        run = subprocess.run([sys.executable, "data_processing.py", step], cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
    video = read_manifest(tmp_path / DATA / "training_json.json")[0]
    assert (video.name, video.kind.name, len(video.clips)) == ("one", "deepspeech", 3)


def lips_and_voice(video: Path) -> tuple[np.ndarray, np.ndarray]:
    """Opening of the lips and loudness of the voice, 100 a second, each standardised."""
    reader = VideoReader(video)
    tracker = FaceTracker(float(reader.info.rate))
    for frame in reader.frames():
        tracker.add(frame.luma)
    points = follow_face(tracker.finish(np.zeros(1, int)), len(reader.times), np.zeros(1, int))
    opening = np.linalg.norm(points[:, 62] - points[:, 66], axis=1)
    seen = np.isfinite(opening)
    sound = load_waveform(video, "--x")
    grid = np.arange(0, min(reader.times[-1], sound.duration - 0.1), 0.01)
    lips = np.interp(grid, reader.times[seen], opening[seen])
    power = np.convolve(sound.samples**2, np.ones(800) / 800, "same")[(grid * sound.rate).astype(int)]
    voice = np.log10(power + 1e-6)
    return (lips - lips.mean()) / lips.std(), (voice - voice.mean()) / voice.std()


def lag(first: np.ndarray, second: np.ndarray) -> float:
    """Seconds by which the second series follows the first."""
    size = min(len(first), len(second))
    lags = range(-40, 41)
    match = [np.mean(first[40 : size - 40] * np.roll(second[:size], -shift)[40 : size - 40]) for shift in lags]
    return lags[int(np.argmax(match))] / 100


@pytest.mark.slow
@pytest.mark.clips
@pytest.mark.parametrize("name", ["address_a3_256_30fps", "selfie_woman_544x960_vfr"])
def test_real_clips_keep_their_lips_in_time(clips_dir, tmp_path, name):
    source, target = clips_dir / f"{name}.mp4", tmp_path / "target.mp4"
    resample_video(source, target, crf=12)
    before, after = VideoReader(source), VideoReader(target)
    duration = before.times[-1] + 1 / float(before.info.rate)
    assert len(after.times) / 25 == pytest.approx(duration, abs=0.04)
    (lips, voice), (new_lips, new_voice) = lips_and_voice(source), lips_and_voice(target)
    print(name, "lips, voice moved by", lag(lips, new_lips), lag(voice, new_voice), "s")
    print(name, "voice after lips by", lag(lips, voice), "s, resampled", lag(new_lips, new_voice), "s")
    assert lag(lips, new_lips) == pytest.approx(lag(voice, new_voice), abs=0.04)
    assert lag(lips, voice) == pytest.approx(lag(new_lips, new_voice), abs=0.04)
