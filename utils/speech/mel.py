"""Log-mel spectrograms.

The filter bank is that of librosa (`librosa.filters.mel` with norm=None), which tests compare with: importing librosa
takes seconds, and half a minute the first time, when numba compiles parts of it that are not needed here.
"""

from functools import lru_cache

import numpy as np

from utils.media.audio import SPEECH_RATE, Waveform
from utils.speech.features import KINDS

RANGE_DB = (-60.0, 10.0)
"""Mel bands are clipped to this range, relative to the recording's own speech level.

With a lower limit of -70 dB, the digital silence of synthetic speech lies so far from recorded pauses that the
generated face breaks up in it.
"""
MEAN_DB = -42.0
DEVIATION_DB = 15.0
"""Mean and standard deviation of the clipped mel bands of speech: that of 24 clips, of many speakers and codecs."""
LOWEST_HZ = 50.0
HIGHEST_HZ = 7600.0
MIN_POWER = 1e-10

LEVEL_PERCENTILE = 99
HOP = SPEECH_RATE // 100
"""Samples from row to row."""
_WINDOW = SPEECH_RATE // 40
FFT = 512
_BLOCK_ROWS = 6000

# Slaney's mel scale (Auditory Toolbox, 1998): linear up to 1 kHz, then 27 logarithmic steps to 6.4 kHz.
_HZ_PER_MEL = 200 / 3
_LOG_START_HZ = 1000.0
_LOG_START_MEL = _LOG_START_HZ / _HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27


def mel_features(waveform: Waveform, block_rows: int = _BLOCK_ROWS) -> np.ndarray:
    """Log-mel spectrogram that does not depend on the recording level.

    Power P of 80 mel bands (`mel_filters`; 25 ms Hann windows every 10 ms, row j centred at 10 j ms), after
    pre-emphasis y[n] = x[n] - 0.97 x[n - 1], without which sibilants sink below the range.
    L = 10 log10(max(P, 1e-10)) dB. The speech level is the 99th percentile over rows of the loudest band: pauses,
    however long, do not move it, nor does a click. Result: (clip(L - level, -60, 10) + 42) / 15, about zero mean and
    unit variance.

    Args:
        waveform: at 16 kHz.
        block_rows: rows computed at a time; bounds memory, the result is the same.

    Returns:
        float32 [ceil(duration * 100), 80].
    """
    bands = _all_band_levels(waveform, block_rows)
    return normalized(bands, speech_level(bands))


def mel_level(waveform: Waveform) -> float:
    """Level of the speech in a recording at 16 kHz, in dB: the reference of mel_features."""
    return speech_level(_all_band_levels(waveform, _BLOCK_ROWS))


def _all_band_levels(waveform: Waveform, block_rows: int) -> np.ndarray:
    total = -(-len(waveform.samples) // HOP)
    bands = np.empty((total, KINDS["mel"].channels), np.float32)
    for first in range(0, total, block_rows):
        last = min(first + block_rows, total)
        bands[first:last] = band_levels(padded(waveform.samples, *rows_samples(first, last)))
    return bands


def rows_samples(first: int, last: int) -> tuple[int, int]:
    """The samples [start, stop) that the rows [first, last) are computed from."""
    return first * HOP - FFT // 2 - 1, (last - 1) * HOP + FFT // 2


def band_levels(samples: np.ndarray) -> np.ndarray:
    """Levels of the mel bands in dB, float32 [rows, 80], from the samples of these rows, see rows_samples."""
    power = power_spectrum(samples[1:] - np.float32(0.97) * samples[:-1])
    filters = mel_filters(KINDS["mel"].channels)
    return 10 * np.log10(np.maximum(power @ filters.T, np.float32(MIN_POWER)))


def speech_level(bands: np.ndarray) -> float:
    """Level of the speech in dB, from the band levels [rows, 80] of a recording."""
    return float(np.percentile(bands.max(axis=1), LEVEL_PERCENTILE))


def normalized(bands: np.ndarray, level: float) -> np.ndarray:
    """Features from band levels and the speech level; `bands` is overwritten."""
    bands -= np.float32(level)
    np.clip(bands, *RANGE_DB, out=bands)
    bands -= np.float32(MEAN_DB)
    bands /= np.float32(DEVIATION_DB)
    return bands


def power_spectrum(samples: np.ndarray) -> np.ndarray:
    """Squared magnitudes float32 [rows, 257] of 25 ms Hann windows every 10 ms, each in the middle of 512 samples."""
    rows = np.lib.stride_tricks.sliding_window_view(samples, FFT)[::HOP]
    return np.square(np.abs(np.fft.rfft(rows * _hann_window()).astype(np.complex64)))


@lru_cache(maxsize=1)
def _hann_window() -> np.ndarray:
    """Periodic Hann window, float64 [512], zero outside the middle 25 ms."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)
    before = (FFT - _WINDOW) // 2
    return np.pad(window, (before, FFT - _WINDOW - before))


@lru_cache
def mel_filters(bands: int) -> np.ndarray:
    """Triangles of height 1 whose corners are equally spaced on Slaney's mel scale, float32 [bands, 257]."""
    corners = _mel_to_hz(np.linspace(_hz_to_mel(LOWEST_HZ), _hz_to_mel(HIGHEST_HZ), bands + 2))
    frequencies = np.fft.rfftfreq(FFT, 1 / SPEECH_RATE)
    ramps = corners[:, None] - frequencies
    widths = np.diff(corners)[:, None]
    rising, falling = -ramps[:-2] / widths[:-1], ramps[2:] / widths[1:]
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def _hz_to_mel(hertz: float) -> float:
    if hertz < _LOG_START_HZ:
        return hertz / _HZ_PER_MEL
    return _LOG_START_MEL + np.log(hertz / _LOG_START_HZ) / _LOG_STEP


def _mel_to_hz(mels: np.ndarray) -> np.ndarray:
    logarithmic = _LOG_START_HZ * np.exp(_LOG_STEP * (mels - _LOG_START_MEL))
    return np.where(mels < _LOG_START_MEL, mels * _HZ_PER_MEL, logarithmic)


def padded(samples: np.ndarray, start: int, stop: int) -> np.ndarray:
    """samples[start:stop] with zeros beyond both ends."""
    inside = samples[max(start, 0) : max(stop, 0)]
    before = min(max(-start, 0), stop - start)
    return np.pad(inside, (before, stop - start - before - len(inside)))
