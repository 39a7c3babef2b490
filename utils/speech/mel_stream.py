"""Mel features of a live audio stream."""

import threading

import numpy as np

from utils.media.audio import SPEECH_RATE
from utils.speech.features import KINDS, SpeechFeatures
from utils.speech.mel import FFT, HOP, LEVEL_PERCENTILE, band_levels, normalized, padded, rows_samples

LOOK_AHEAD = 12 / 100 + FFT / 2 / SPEECH_RATE
"""Seconds of audio after its time that the window of a frame needs: 12 rows, and half the FFT window of the last."""
MIN_LEVEL_DB = 10.0
"""Minimum speech level, so that noise before the first word is not taken for speech: that of speech at -28 dBFS. At
-20 dBFS it is 20 dB."""

_KIND = KINDS["mel"]
_KEPT_ROWS = 30 * _KIND.rate  # the window of a frame is asked for within this time
_STEP_DB, _LOWEST_DB, _STEPS = 0.05, -100.0, 4000  # of the histogram of loudest bands


class MelStream:
    """Speech features of audio that comes in blocks, indexed by time as SpeechFeatures are.

    `push`, `finish` and `is_ready` must be called from one thread; `window` may be called from another.

    Args:
        level: speech level in dB, see utils.speech.mel.speech_level; None: that of the speech so far.
    """

    kind = _KIND

    def __init__(self, level: float | None = None):
        self._level = level
        self._lock = threading.Lock()
        self._samples = np.zeros(0, np.float32)  # what the next row needs, and what came after
        self._first_sample = 0
        self._bands: list[np.ndarray] = []
        self._first_row = 0
        self._rows = 0
        self._histogram = np.zeros(_STEPS, np.int64)
        self._finished = False
        self.duration = 0.0
        """Seconds of audio so far."""

    def push(self, samples: np.ndarray) -> None:
        """Add audio, float [n] in [-1, 1] at 16 kHz."""
        self._samples = np.concatenate([self._samples, np.clip(np.asarray(samples, np.float32), -1, 1)])
        count = self._first_sample + len(self._samples)
        self.duration = count / SPEECH_RATE
        self._compute((count - FFT // 2) // HOP + 1)

    def finish(self) -> None:
        """End the stream: beyond its end there is silence, as in a recording."""
        self._compute(-(-(self._first_sample + len(self._samples)) // HOP))
        self._finished = True

    def is_ready(self, time: float) -> bool:
        """Whether the window of this time is final, except for the level."""
        return self._finished or self.duration >= time + LOOK_AHEAD - 1e-6

    def window(self, times: np.ndarray, frames: int = 5) -> np.ndarray:
        """Rows around the given times; see SpeechFeatures.window."""
        with self._lock:
            bands, first = np.concatenate(self._bands), self._first_row
            level = self._running_level() if self._level is None else self._level
        return SpeechFeatures(_KIND, normalized(bands, level)).window(np.asarray(times) - first / _KIND.rate, frames)

    def _compute(self, rows: int) -> None:
        """Compute the band levels up to a row."""
        if rows <= self._rows:
            return
        start, stop = rows_samples(self._rows, rows)
        bands = band_levels(padded(self._samples, start - self._first_sample, stop - self._first_sample))
        steps = ((bands.max(axis=1) - _LOWEST_DB) / _STEP_DB).astype(np.int64)
        with self._lock:
            np.add.at(self._histogram, np.clip(steps, 0, _STEPS - 1), 1)
            self._bands.append(bands)
            self._rows = rows
            while self._rows - self._first_row - len(self._bands[0]) > _KEPT_ROWS:
                self._first_row += len(self._bands.pop(0))
        drop = max(0, rows_samples(rows, rows + 1)[0] - self._first_sample)
        self._samples, self._first_sample = self._samples[drop:], self._first_sample + drop

    def _running_level(self) -> float:
        """The percentile of the loudest bands so far, to half a step."""
        counts = np.cumsum(self._histogram)
        step = int(np.searchsorted(counts, LEVEL_PERCENTILE / 100 * counts[-1]))
        return max(MIN_LEVEL_DB, _LOWEST_DB + _STEP_DB * (step + 0.5))
