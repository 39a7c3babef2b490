"""Augmentation of images and speech features."""

import numpy as np
import torch
from helpers.samples import make, plain_videos

from dataset import augmentation
from dataset.augmentation import apply_image_augment, sample_image_augment
from dataset.samples import FrameSamples, SampleKey


def test_augmentation_treats_a_sample_alike_and_keeps_the_mouth_where_it_is():
    rng = np.random.default_rng(0)
    augments = torch.stack([sample_image_augment(rng) for _ in range(40)])
    ramp = torch.linspace(0.3, 0.7, 80).expand(40, 6, 3, 104, 80)
    changed = apply_image_augment(ramp, augments, 1)
    assert changed.min() >= 0 and changed.max() <= 1
    rising = changed[..., -1] > changed[..., 0]
    assert torch.equal(rising.all(-1).all(-1).all(-1), ~augments[:, 0].bool())  # all pictures of a sample are flipped
    assert 5 < augments[:, 0].sum() < 35

    mark = torch.zeros(40, 6, 3, 104, 80)
    mark[..., 60:64, 38:42] = 1
    moved = apply_image_augment(mark, augments, 1).mean(2)
    rows = (moved.sum(3) * torch.arange(104.0)).sum(2) / moved.sum((2, 3))
    assert (rows[:, 1:] - rows[:, 1:2]).abs().max() < 1e-3  # references move together
    bright = moved > moved.amax((2, 3), keepdim=True) * 0.9
    centre = [bright[i].nonzero().float().mean(0)[1:] for i in range(40)]
    assert max((place - torch.tensor([61.5, 39.5])).abs().max().item() for place in centre) < 3


def test_color_augmentation_moves_nothing():
    rng = np.random.default_rng(0)
    augments = torch.stack([sample_image_augment(rng, "color") for _ in range(40)])
    mark = torch.full((40, 6, 3, 104, 80), 0.4)
    mark[..., 60:64, 38:42] = 0.6
    changed = apply_image_augment(mark, augments, 1)
    assert torch.allclose(changed[..., 60:64, 38:42].amin((3, 4)), changed[..., 60:64, 38:42].amax((3, 4)), atol=1e-4)
    assert torch.allclose(changed[..., 59, :], changed[..., 0, :1].expand_as(changed[..., 59, :]), atol=1e-4)
    assert changed.flatten(1).std(0).max() > 0.01


def test_augmented_speech_is_disturbed_and_reproducible(tmp_path):
    videos = plain_videos(tmp_path, [6])
    plain, one, two = (make(FrameSamples, videos, augment_audio=flag) for flag in (False, True, True))
    key = [SampleKey(1, 3)]
    assert torch.equal(one[key]["audio"], two[key]["audio"])
    assert torch.equal(one[key]["crops"], plain[key]["crops"])
    assert not torch.equal(one[key]["audio"], plain[key]["audio"])


def test_mel_features_are_augmented_with_the_formants_of_other_speakers(monkeypatch):
    for name in ("NOISE", "TILT", "MASKED_BANDS", "MASKED_ROWS"):
        monkeypatch.setattr(augmentation, name, 0)
    speech = np.zeros((20, 80), np.float32)
    speech[:, 39:42] = 1
    peaks = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        changed = augmentation.augment_audio_features(speech, rng, "mel")
        assert changed.shape == speech.shape and changed.dtype == np.float32
        peaks.append((changed[0] * np.arange(80)).sum() / changed[0].sum())
        same = augmentation.augment_audio_features(speech, rng, "deepspeech")
        np.testing.assert_array_equal(same, speech)
    assert 40 * 0.9 < min(peaks) < 39 and 41 < max(peaks) < 40 * 1.1
