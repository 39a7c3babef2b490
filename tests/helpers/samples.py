"""Samples whose crops and speech features say which frames they are of."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dataset.manifest import Clip, Video
from dataset.samples import SampleKey, Samples
from utils.speech.features import FeatureKind

MOUTH = 64
ROWS = FeatureKind("mel", 3, 4)


class CropNames:
    """Crops that are their own paths, as numbers: video, clip, frame."""

    def take(self, paths: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[int(part) for part in path.split("/")] for path in paths])


def plain_videos(tmp_path: Path, clips: Sequence[int], numbers_inside: bool = False, length: int = 9) -> list[Video]:
    """Videos with so many clips each; the speech at row r of video v is [v, r, 0]."""
    videos = []
    for number, count in enumerate(clips):
        kind = FeatureKind("deepspeech", 3, 1) if numbers_inside else ROWS
        total = count * length * kind.rows_per_frame
        rows = np.stack([np.full(total, number), np.arange(total), np.zeros(total)], 1).astype(np.float32)
        path = tmp_path / f"{number}.npy"
        np.save(path, rows)
        own = []
        for clip in range(count):
            first = clip * length * kind.rows_per_frame
            inside = rows[first : first + length] if numbers_inside else None
            own.append(Clip([f"{number}/{clip}/{frame}" for frame in range(length)], first, inside))
        videos.append(Video(f"video{number}", own, kind, None if numbers_inside else path))
    return videos


def draw(samples: Samples, count: int = 60) -> list[dict[str, torch.Tensor]]:
    return [{name: value[0] for name, value in samples[[SampleKey(1, index)]].items()} for index in range(count)]


def make(kind: type[Samples], videos: list[Video], seed: int = 5, **options) -> Samples:
    return kind(videos, CropNames(), MOUTH, seed, **options)
