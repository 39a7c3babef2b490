from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.sample_media import BT601

from utils.evaluation.lip_metrics import MAX_LAG
from utils.evaluation.single_pass import play_once
from utils.evaluation.sync_confidence import SyncConfidence
from utils.face.crop_geometry import CropBox
from utils.media.video_reader import Frame
from utils.speech.features import KINDS, SpeechFeatures


class Clockwork(torch.nn.Module):
    """A SyncNet for pictures whose brightness, and sound whose value, tell the time."""

    def face_encoder(self, image):
        return image.mean((1, 2, 3), keepdim=True) * 255

    def audio_encoder(self, audio):
        return audio.mean((1, 2), keepdim=True)[..., None]

    def score(self, face, code):
        return -(face - code).abs()


@pytest.mark.parametrize("late", [-2, 0, 3])
def test_sync_offset_of_shifted_audio(late):
    yuv = [np.full((96, 64), 128, np.uint8) for _ in range(60)]
    for index, frame in enumerate(yuv):
        frame[:64] = 40 + 2 * index
    reader = SimpleNamespace(
        info=SimpleNamespace(colour=BT601),
        timeline=lambda rate: np.arange(60),
        play=lambda order: (Frame(yuv[i], i, i / 25) for i in order),
    )
    plan = SimpleNamespace(usable=np.ones(60, bool), box=lambda frame: CropBox(0, 64, 0, 64))
    brightness = (np.array([40 + 2 * i for i in range(-40, 100)]) - 16) * 255 / 219
    values = np.repeat(brightness[40 - late : 40 - late + 60], 4)[:, None].repeat(80, 1).astype(np.float32)
    scorer = SyncConfidence(Clockwork(), 64, torch.device("cpu"))
    sync = scorer.start(reader, plan, SpeechFeatures(KINDS["mel"], values))
    assert not list(play_once(reader, np.zeros(0, int), [sync]))
    curve = sync.curve()
    assert curve.offset == late
    assert curve.confidence > 0
    assert len(curve.score) == 2 * MAX_LAG + 1
