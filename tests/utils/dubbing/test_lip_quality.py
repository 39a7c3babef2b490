"""Whether generated lips may be shown."""

import numpy as np
import pytest
from helpers.lip_patches import HEIGHT, WIDTH, lip_patch

from utils.dubbing.lip_quality import are_lips_poor

OPENINGS = np.linspace(0, 10, 16)


def patches(openings: np.ndarray) -> np.ndarray:
    return np.stack([lip_patch(opening) for opening in openings])


BANK, REAL = patches(np.linspace(0, 11, 48)), patches(OPENINGS)


def test_lips_like_the_real_ones_are_good():
    assert not are_lips_poor(BANK, REAL, REAL)


@pytest.mark.parametrize(("motion", "poor"), [(0.9, False), (0.4, True), (0.05, True)])
def test_lips_that_move_too_little_are_poor(motion, poor):
    assert are_lips_poor(BANK, REAL, patches(5 + motion * (OPENINGS - 5))) == poor


def test_smudged_lips_are_poor():
    noise = np.random.default_rng(0).normal(0, 15, (16, HEIGHT, WIDTH, 3)).astype(np.float32)
    assert are_lips_poor(BANK, REAL, REAL + noise)


def test_lips_that_move_where_the_source_is_nearly_silent_are_poor():
    silent = np.linspace(1, 1.2, 48)
    assert are_lips_poor(patches(silent), patches(silent[::3]), REAL)


def test_a_few_frames_tell_nothing():
    assert not are_lips_poor(BANK[:7], REAL, patches(np.full(16, 5.0)))
