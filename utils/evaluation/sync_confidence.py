"""Sync confidence and audio-visual offset of a video, from SyncNet."""

from dataclasses import dataclass

import numpy as np
import torch

from models.losses import CLIP_FRAMES, CLIP_LENGTH
from utils.evaluation.lip_metrics import MAX_LAG
from utils.face.crop import cut_face
from utils.face.crop_geometry import mouth_region, network_size
from utils.face.crop_plan import CropPlan
from utils.media.images import crops_to_tensor
from utils.media.video_reader import Frame, VideoReader
from utils.speech.features import AUDIO_FRAME_RATE, SpeechFeatures


@dataclass(frozen=True)
class SyncCurve:
    """Mean score at each shift of the audio from -MAX_LAG to MAX_LAG frames of 40 ms, float [2 MAX_LAG + 1]."""

    score: np.ndarray

    @property
    def offset(self) -> float:
        """Shift of the highest score; positive where the audio is late."""
        return float(np.argmax(self.score) - MAX_LAG) if np.isfinite(self.score).all() else float("nan")

    @property
    def confidence(self) -> float:
        """Highest score minus the median, as in Chung and Zisserman's SyncNet (there of distances)."""
        return float(self.score.max() - np.median(self.score))


class SyncConfidence:
    """Scores videos with one SyncNet.

    Args:
        network: has `face_encoder`, `audio_encoder` and `score`, see models.syncnet.
        mouth_region_size: side in pixels of the mouth squares that it was trained on.
        device: where to run.
    """

    def __init__(self, network: torch.nn.Module, mouth_region_size: int, device: torch.device):
        self.network = network.to(device).eval()
        self.mouth_region_size = mouth_region_size
        self.device = device

    def start(self, reader: VideoReader, plan: CropPlan, features: SpeechFeatures) -> "SyncPass":
        """Begin to score a video; give the result its frames (see utils.evaluation.single_pass), then ask for `curve`.

        Args:
            reader: the video.
            plan: its own crops.
            features: features of its audio, of the kind that the network was trained on.
        """
        return SyncPass(self, reader, plan, features)


class SyncPass:
    """Scores the frames of one video as they come: successive clips of five frames at 25 frames per second."""

    def __init__(self, scorer: SyncConfidence, reader: VideoReader, plan: CropPlan, features: SpeechFeatures):
        self.order = reader.timeline(AUDIO_FRAME_RATE)
        self._scorer, self._plan, self._features = scorer, plan, features
        self._colour = reader.info.colour
        self._shifts = np.arange(-MAX_LAG, MAX_LAG + 1)
        self._mouths: list[np.ndarray] = []
        self._total, self._count = np.zeros(len(self._shifts)), 0

    def add(self, tick: int, frame: Frame) -> None:
        """Take the next frame; clips in which a frame has no face are left out."""
        if tick % CLIP_FRAMES == 0:
            self._mouths = []
        if self._plan.usable[frame.index]:
            size = self._scorer.mouth_region_size
            rows, columns = mouth_region(size)
            crop = cut_face(frame.yuv, self._plan.box(frame.index), self._colour).resized(*network_size(size))
            self._mouths.append(crop[rows, columns])
        if tick % CLIP_FRAMES == CLIP_FRAMES - 1 and len(self._mouths) == CLIP_FRAMES:
            self._score(tick + 1 - CLIP_FRAMES, np.stack(self._mouths))

    @torch.inference_mode()
    def _score(self, first: int, mouths: np.ndarray) -> None:
        """Score mouths [5, m, m, 3] from tick `first` on against the audio at all shifts."""
        scorer, shifts = self._scorer, self._shifts
        images = crops_to_tensor(mouths, scorer.device).flatten(0, 1)[None]
        middle = (first + CLIP_FRAMES // 2 + shifts) / AUDIO_FRAME_RATE
        audio = torch.from_numpy(self._features.window(middle, CLIP_LENGTH)).to(scorer.device)
        face = scorer.network.face_encoder(images).expand(len(shifts), -1, -1, -1)
        score = scorer.network.score(face, scorer.network.audio_encoder(audio))
        self._total += score.mean((1, 2, 3)).double().cpu().numpy()
        self._count += 1

    def curve(self) -> SyncCurve:
        """Mean score over the clips; NaN if there is no clip in which all frames have a face."""
        return SyncCurve(self._total / self._count if self._count else np.full(len(self._shifts), np.nan))
