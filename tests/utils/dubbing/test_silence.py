"""Pauses in speech."""

import numpy as np

from utils.dubbing.silence import closed_lips, find_pauses
from utils.media.audio import Waveform

RATE = 16000


def speech(*parts: tuple[float, float]) -> Waveform:
    """Noise; each part is (seconds, amplitude)."""
    random = np.random.default_rng(0)
    samples = [amplitude * random.standard_normal(round(seconds * RATE)) for seconds, amplitude in parts]
    return Waveform(np.concatenate(samples).astype(np.float32), RATE)


def test_pauses_of_three_tenths_of_a_second_are_found_and_shorter_ones_are_not():
    waveform = speech((1, 0.1), (0.2, 0.0), (1, 0.1), (0.5, 0.0005), (1, 0.1))
    np.testing.assert_allclose(find_pauses(waveform), [[2.2, 2.7]], atol=0.021)


def test_a_pause_may_reach_the_beginning_and_the_end():
    np.testing.assert_allclose(find_pauses(speech((0.4, 0), (1, 0.1), (0.6, 0))), [[0, 0.4], [1.4, 2.0]], atol=0.021)


def test_steady_noise_has_no_pauses():
    assert len(find_pauses(speech((2, 0.1)))) == 0
    assert len(find_pauses(speech((1, 0.1), (1, 0.01), (1, 0.1)))) == 0  # 20 dB below: somebody whispers, or music


def test_lips_close_and_open_smoothly_inside_the_pause_alone():
    times = np.arange(0, 3, 0.04)
    closed = closed_lips(times, np.array([[1.0, 2.0]]))
    assert (closed[(times <= 1.0) | (times >= 2.0)] == 0).all()
    assert (closed[(times >= 1.16) & (times <= 1.84)] == 1).all()
    assert np.abs(np.diff(closed)).max() < 0.4
    assert (closed_lips(times, np.empty((0, 2))) == 0).all()
