"""Small training sets in the real layout, and training scripts run on them."""

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from config.training import (
    AudioEncoderTrainingParser,
    ClipTrainingParser,
    FrameTrainingParser,
    MouthReaderTrainingParser,
    SyncNetTrainingParser,
)
from dataset.manifest import Clip, Video, write_manifest
from utils.data_processing.settings import clip_name, frame_name
from utils.distributed import DistInfo
from utils.media.images import write_jpeg
from utils.speech.features import KINDS

PROJECT = Path(__file__).parents[2]
CROP_HEIGHT, CROP_WIDTH = 65, 50
"""Of a crop radius of 20."""
LIMIT_SECONDS = 240


def face_picture(video: int, frame: int, opening: float = 0.5) -> np.ndarray:
    """A face of sorts: a skin of the video's own colour, and a mouth whose opening (0..1) one can see."""
    rows, columns = np.mgrid[0:CROP_HEIGHT, 0:CROP_WIDTH]
    picture = np.empty((CROP_HEIGHT, CROP_WIDTH, 3), np.uint8)
    for channel in range(3):
        picture[..., channel] = 90 + 25 * ((video + channel) % 4) + rows // 2 + 10 * np.sin(columns / 6 + frame)
    mouth = ((rows - 42) / (2 + 8 * opening)) ** 2 + ((columns - 25) / 10) ** 2 < 1
    picture[mouth] = (120, 20, 30)
    return picture


def write_training_set(folder: Path, videos: int = 2, clips: int = 3, kind: str = "mel", seed: int = 0) -> Path:
    """Write crops, features and training json; the mouth opens with the loudness of the speech. Gives the json."""
    folder.mkdir(parents=True, exist_ok=True)
    feature = KINDS[kind]
    rng = np.random.default_rng(seed)
    entries = []
    for number in range(videos):
        name, frames = f"video{number}", 9 * clips
        loudness = rng.uniform(-1, 1, frames)
        rows = np.repeat(loudness, feature.rows_per_frame)[:, None]
        speech = (rows + 0.1 * rng.standard_normal((len(rows), feature.channels))).astype(np.float32)
        feature_path = None
        if kind != "deepspeech":
            feature_path = folder / f"{name}_{kind}.npy"
            np.save(feature_path, speech.astype(np.float16))
        own = []
        for clip in range(clips):
            target = folder / "crops" / name / clip_name(clip)
            target.mkdir(parents=True)
            first = 9 * clip
            for frame in range(first, first + 9):
                write_jpeg(target / frame_name(frame), face_picture(number, frame, (loudness[frame] + 1) / 2))
            paths = [(target / frame_name(frame)).as_posix() for frame in range(first, first + 9)]
            row = first * feature.rows_per_frame
            own.append(Clip(paths, row) if feature_path else Clip(paths, 0, speech[first : first + 9]))
        entries.append(Video(name, own, feature, feature_path))
    json_path = folder / "training_json.json"
    write_manifest(json_path, entries)
    return json_path


def write_perceptual_weights(path: Path) -> Path:
    """The first convolution of a VGG, random: enough for a perception loss, and quick."""
    generator = torch.Generator().manual_seed(0)
    torch.save(
        {
            "features.0.weight": torch.randn(64, 3, 3, 3, generator=generator) / 5,
            "features.0.bias": torch.zeros(64),
        },
        path,
    )
    return path


PARSERS = {
    "train_DINet_frame.py": FrameTrainingParser,
    "train_DINet_clip.py": ClipTrainingParser,
    "train_syncnet.py": SyncNetTrainingParser,
    "train_audio_encoder.py": AudioEncoderTrainingParser,
    "train_mouth_reader.py": MouthReaderTrainingParser,
}


def train_here(script: str, *arguments: object) -> None:
    """Do what a training script does, in this process and one thread; UserErrors come out as they are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        options = PARSERS[script]().parse_args([str(argument) for argument in arguments])
        importlib.import_module(script.removesuffix(".py")).train(options, DistInfo(), torch.device("cpu"))
    finally:
        torch.set_num_threads(threads)


def start_script(*arguments: object, **environment: str) -> subprocess.Popen:
    """Start a script of the project (or, with -m, a module) in one thread, standard error in a pipe."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=PROJECT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_script(*arguments: object, status: int = 0, **environment: str) -> str:
    """Run a script to its end, see that it exits with `status`, and give what it wrote to standard error."""
    process = start_script(*arguments, **environment)
    try:
        _, errors = process.communicate(timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == status, errors
    return errors


def interrupt(process: subprocess.Popen, number: signal.Signals, folder: Path, beside: set[Path]) -> tuple[int, str]:
    """Send a signal once there is a checkpoint in `folder` that is not one of `beside`; (exit status, errors)."""
    limit = time.monotonic() + LIMIT_SECONDS
    while not set(folder.glob("*.pth")) - beside:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < limit, "no checkpoint came"
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=LIMIT_SECONDS)
    return process.returncode, errors
