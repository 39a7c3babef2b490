import math
from dataclasses import astuple

import cv2
import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from utils.evaluation.image_metrics import Flicker, compare, sharpness


def face_image():
    return cv2.resize(data.astronaut()[20:228, 140:300], (320, 416))


def test_image_scores_are_those_of_the_libraries():
    true = face_image()
    other = np.clip(cv2.GaussianBlur(true, (0, 0), 1.5) + np.random.default_rng(0).normal(0, 6, true.shape), 0, 255)
    other = other.astype(np.uint8)
    (scores,) = compare(true, other)
    assert scores.psnr == pytest.approx(peak_signal_noise_ratio(true, other), abs=1e-6)
    library = structural_similarity(
        true, other, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert scores.ssim == pytest.approx(library, abs=1e-4)
    tensors = [torch.from_numpy(p).permute(2, 0, 1)[None].double() for p in (other, true)]
    library = multiscale_structural_similarity_index_measure(*tensors, data_range=255.0)
    assert scores.ms_ssim == pytest.approx(float(library), abs=5e-4)
    assert scores.l1 == pytest.approx(np.abs(true.astype(float) - other).mean())


def test_regions_score_as_if_they_had_been_cut_out():
    true = face_image()
    other = cv2.GaussianBlur(true, (0, 0), 2.0)
    mouth = slice(128, 384), slice(32, 288)
    whole, inside = compare(true, other, [(slice(None), slice(None)), mouth])
    assert [whole] == compare(true, other)
    (alone,) = compare(true[mouth], other[mouth])
    assert astuple(inside) == pytest.approx(astuple(alone), rel=1e-5)


def test_image_scores_of_known_noise():
    noise = np.random.default_rng(1).normal(0, 9, (416, 320, 3)).round()
    true = np.full((416, 320, 3), 128, np.uint8)
    (scores,) = compare(true, (true + noise).astype(np.uint8))
    assert scores.psnr == pytest.approx(20 * math.log10(255 / 9), abs=0.05)
    assert scores.l1 == pytest.approx(9 * math.sqrt(2 / math.pi), rel=0.01)
    (equal,) = compare(true, true)
    assert (equal.psnr, equal.ssim, equal.ms_ssim, equal.l1) == (math.inf, 1, 1, 0)


def test_flicker_of_noise_and_of_steady_motion():
    rng, noise, motion = np.random.default_rng(2), Flicker(), Flicker()
    for step in range(5):
        noise.add((128 + rng.normal(0, 6, (64, 64, 3))).round().astype(np.uint8))
        motion.add(np.full((8, 8, 3), 20 + 7 * step, np.uint8))
    assert np.mean(noise.values) == pytest.approx(6 * math.sqrt(3 / math.pi), rel=0.03)
    assert motion.values == [0, 0, 0]
    motion.add(None)
    motion.add(np.zeros((8, 8, 3), np.uint8))
    assert len(motion.values) == 3, "nothing is compared over a gap"


def test_sharpness_falls_with_blur():
    assert sharpness(cv2.GaussianBlur(face_image(), (0, 0), 2)) < 0.3 * sharpness(face_image())
