"""SyncNet's opinion of a video: whether lips and sound belong together, and by how much they are shifted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from utils.evaluation.lip_metrics import MAX_LAG
from utils.face.crop import cut_face
from utils.face.crop_geometry import mouth_region, network_size
from utils.face.crop_plan import CropPlan
from utils.media.images import crops_to_tensor
from utils.media.video_reader import VideoReader
from utils.speech.features import AUDIO_FRAME_RATE, SpeechFeatures

PICTURES, SLOTS = 5, 9
"""Frames and slots of speech that SyncNet sees at a time."""


@dataclass(frozen=True)
class SyncCurve:
    """Mean score at each shift of the sound from -MAX_LAG to MAX_LAG frames of 40 ms, float [2 MAX_LAG + 1]."""

    score: np.ndarray

    @property
    def offset(self) -> float:
        """Shift of the highest score; positive where the sound is late."""
        return float(np.argmax(self.score) - MAX_LAG) if np.isfinite(self.score).all() else float("nan")

    @property
    def confidence(self) -> float:
        """Highest score less the median one, as in Chung and Zisserman's SyncNet (there of distances)."""
        return float(self.score.max() - np.median(self.score))


class SyncJudge:
    """Scores videos with one SyncNet.

    Args:
        network: has `face_encoder`, `audio_encoder` and `score`, see models.syncnet.
        mouth_region_size: side of the mouth squares that it was trained on, pixels.
        device: where to run.
    """

    def __init__(self, network: torch.nn.Module, mouth_region_size: int, device: torch.device):
        self.network = network.to(device).eval()
        self.mouth_region_size = mouth_region_size
        self.device = device

    @torch.inference_mode()
    def curve(
        self, reader: VideoReader, plan: CropPlan, features: SpeechFeatures, tick: Callable[[], None] | None = None
    ) -> SyncCurve:
        """Mean score over the video's runs of five frames at 25 frames a second, one after the other.

        Args:
            reader: the video.
            plan: its own crops.
            features: its sound, of the kind that the network was trained on.
            tick: called once a run.
        """
        shifts = np.arange(-MAX_LAG, MAX_LAG + 1)
        total, count = np.zeros(len(shifts)), 0
        for first, mouths in self._runs(reader, plan):
            pictures = crops_to_tensor(mouths, self.device).flatten(0, 1)[None]
            middle = (first + PICTURES // 2 + shifts) / AUDIO_FRAME_RATE
            audio = torch.from_numpy(features.window(middle, SLOTS)).to(self.device)
            face = self.network.face_encoder(pictures).expand(len(shifts), -1, -1, -1)
            score = self.network.score(face, self.network.audio_encoder(audio))
            total += score.mean((1, 2, 3)).double().cpu().numpy()
            count += 1
            if tick is not None:
                tick()
        return SyncCurve(total / count if count else np.full(len(shifts), np.nan))

    def _runs(self, reader: VideoReader, plan: CropPlan) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first tick, mouths uint8 [5, m, m, 3]) of all runs whose five frames have a face."""
        size, (rows, columns) = network_size(self.mouth_region_size), mouth_region(self.mouth_region_size)
        order = reader.timeline(AUDIO_FRAME_RATE)
        mouths: list[np.ndarray] = []
        for number, frame in enumerate(reader.play(order)):
            if number % PICTURES == 0:
                mouths = []
            if plan.usable[frame.index]:
                crop = cut_face(frame.yuv, plan.box(frame.index), reader.info.colour).resized(*size)
                mouths.append(crop[rows, columns])
            if number % PICTURES == PICTURES - 1 and len(mouths) == PICTURES:
                yield number + 1 - PICTURES, np.stack(mouths)
