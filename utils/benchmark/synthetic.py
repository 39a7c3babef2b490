"""Inputs of the benchmark: a video of a given size with landmarks, speech of a given length, random images."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from models.perceptual import VGG19_CONVS
from utils.benchmark.published_generator import SEED
from utils.benchmark.settings import InferenceBenchmark
from utils.data_processing.settings import clip_name, frame_name
from utils.face.analysis import track_faces
from utils.face.crop_geometry import network_size
from utils.face.landmarks import follow_face
from utils.face.openface_csv import write_openface_csv
from utils.media.audio import Waveform, load_waveform, write_wav
from utils.media.images import write_jpeg
from utils.media.video_reader import VideoReader
from utils.media.video_writer import VideoWriter
from utils.media.yuv import rgb_patch, set_rgb_patch
from utils.speech.extractor import FeatureExtractor
from utils.speech.features import SpeechFeatures

SYNTHETIC_CLIPS = 8
SYNTHETIC_CROP = network_size(256)
"""Height and width of synthetic crops: as of a face in a video of 512 pixels."""


@dataclass(frozen=True)
class DubbingInputs:
    """A dub to measure: video, audio, landmarks and speech features.

    `landmark_path` is an OpenFace csv, `points` the same as [N, 68, 2] pixels, `times` the seconds of the frames to
    make.
    """

    source: Path
    landmark_path: Path
    points: np.ndarray
    audio: Path
    features: SpeechFeatures
    duration: float
    times: np.ndarray


def dubbing_inputs(
    settings: InferenceBenchmark, size: tuple[int, int], length: float, audio_feature: str, folder: Path
) -> DubbingInputs:
    """Write the video at a size (width, height) and the speech `length` seconds long into `folder`."""
    source = resize_video(settings.source_video_path, size, folder)
    reader = VideoReader(source)
    tracks = track_faces(reader)
    landmark_path = folder / f"{source.stem}.csv"
    write_openface_csv(landmark_path, tracks.table, float(reader.info.rate))
    points = follow_face(tracks.table, tracks.frame_count, np.zeros(1, int))
    audio = folder / "speech.wav"
    waveform = load_waveform(settings.driving_audio_path, "--driving_audio_path")
    write_wav(audio, Waveform(np.resize(waveform.samples, round(length * waveform.rate)), waveform.rate))
    features, duration = FeatureExtractor(audio_feature).extract(audio, "--driving_audio_path")
    times = np.arange(round(duration * reader.info.rate)) / float(reader.info.rate)
    return DubbingInputs(source, landmark_path, points, audio, features, duration, times)


def resize_video(source: Path, size: tuple[int, int], folder: Path) -> Path:
    """The video at a size (width, height), padded with its edges, as H.264; returns the new file."""
    reader = VideoReader(source)
    info = reader.info
    width, height = size
    scale = min(width / info.width, height / info.height)
    inner = (round(info.width * scale), round(info.height * scale))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    sides = (top, height - inner[1] - top, left, width - inner[0] - left)
    path = folder / f"{source.stem}_{width}x{height}.mp4"
    with VideoWriter(path, width, height, info.rate, info.colour, comment="made by benchmark.py") as writer:
        for frame in reader.frames():
            image = cv2.resize(rgb_patch(frame.yuv, 0, info.height, 0, info.width, info.colour), inner)
            image = cv2.copyMakeBorder(image, *sides, cv2.BORDER_REPLICATE)
            yuv = np.empty((height * 3 // 2, width), np.uint8)
            set_rgb_patch(yuv, 0, 0, image, info.colour)
            writer.write(yuv)
    return path


def write_synthetic_clips(folder: Path, channels: int) -> Iterator[tuple[list[str], np.ndarray]]:
    """Write clips of nine crops of blurred noise; yields their paths, and speech features [9, channels]."""
    random = np.random.default_rng(SEED)
    height, width = SYNTHETIC_CROP
    for clip in range(SYNTHETIC_CLIPS):
        target = folder / clip_name(clip)
        target.mkdir()
        paths = [target / frame_name(clip * 9 + frame) for frame in range(9)]
        for path in paths:
            noise = random.integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
            write_jpeg(path, cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))
        yield [path.as_posix() for path in paths], random.standard_normal((9, channels)).astype(np.float32)


def random_vgg19() -> dict[str, torch.Tensor]:
    """Random weights for VGG19 that keep the size of its features."""
    random = torch.Generator().manual_seed(SEED)
    weights, before = {}, 3
    for stage, width in zip(VGG19_CONVS, (64, 128, 256, 512, 512), strict=True):
        for index in stage:
            weight = torch.randn(width, before, 3, 3, generator=random) * math.sqrt(2 / (9 * before))
            weights |= {f"features.{index}.weight": weight, f"features.{index}.bias": torch.zeros(width)}
            before = width
    return weights
