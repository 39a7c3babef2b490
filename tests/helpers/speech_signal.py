"""Synthetic sound that behaves like speech: voiced syllables, hisses, pauses."""

import numpy as np


def speech_like(seconds: float, rate: int = 16000, seed: int = 0) -> np.ndarray:
    """float32 [seconds * rate] in [-0.5, 0.5]: four syllables a second, of varying pitch and spectrum."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    syllable = (time * 4).astype(int)
    count = syllable[-1] + 1
    pitch = random.uniform(100, 220, count)[syllable]
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    tilt = random.uniform(0.5, 2.5, count)[syllable]
    voiced = sum(np.sin(k * phase) / k**tilt for k in range(1, 13))
    hiss = np.diff(random.standard_normal(len(time)), prepend=0) * random.integers(0, 2, count)[syllable]
    envelope = np.sin(np.pi * (time * 4 % 1)) ** 2 * (random.random(count) > 0.2)[syllable]
    sound = envelope * (voiced + 0.3 * hiss)
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)
