"""Samples with lip landmarks."""

import numpy as np
import torch
from helpers.samples import draw, make, plain_videos

from dataset.lip_samples import LipSyncSamples
from dataset.sync_samples import SyncSamples


def test_lips_are_those_of_the_frames_that_the_speech_belongs_to(tmp_path):
    videos = plain_videos(tmp_path, [1, 1], length=100)  # whose crops are numbered as the video's frames are
    samples = make(SyncSamples, videos, negatives=6)
    labelled = LipSyncSamples.__new__(LipSyncSamples)
    labelled.__dict__.update(samples.__dict__)
    opening = np.random.default_rng(0).normal(size=200)
    labelled._measures = {video.name: np.stack([opening, -opening], 1).astype(np.float32) for video in videos}
    unknown = 0
    for sample in draw(labelled, 50):
        heard = torch.cat([sample["audio"][None], sample["negative_audio"]])
        assert torch.equal(sample["lips"], sample["audio_lips"][0])
        for speech, lips in zip(heard, sample["audio_lips"], strict=True):
            if lips.isnan().all():
                unknown += 1
                continue
            frame = int(speech[1, 0]) // 4 + 2
            motion = opening[frame : frame + 5] - opening[frame : frame + 5].mean()
            assert np.allclose(lips.view(5, 2), np.stack([motion, -motion], 1), atol=1e-6)
    assert 45 < unknown < 105  # a quarter of the negatives are another video's
