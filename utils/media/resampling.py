"""Resampling of mono audio as a stream: soxr, and resampy's filter as the published code used it."""

import math

import numpy as np
import soxr

_RESAMPY_HALF_WIDTH = 50  # zero crossings of kaiser_best on each side
_RESAMPY_BLOCK = 1 << 18


def soxr_stream(rate: int, new_rate: int) -> soxr.ResampleStream:
    """Return a stream that resamples mono float32 audio from `rate` to `new_rate` Hz."""
    return soxr.ResampleStream(rate, new_rate, 1, dtype="float32", quality="VHQ")


class ResampyStream:
    """resampy's `kaiser_best` for a stream; the result equals that of the whole signal.

    Blocks start where an input and an output sample coincide (every 441 -> 160 samples for 44.1 -> 16 kHz), with
    more context on each side than the filter is wide.
    """

    def __init__(self, rate: int, new_rate: int):
        self.rate, self.new_rate = rate, new_rate
        divisor = math.gcd(rate, new_rate)
        self.period, self.new_period = rate // divisor, new_rate // divisor
        half_width = _RESAMPY_HALF_WIDTH * max(1, rate / new_rate) + 1
        self.context = math.ceil(half_width / self.period) * self.period
        self.waiting: list[np.ndarray] = []
        self.lead = 0  # samples at the start of `waiting` that only serve as context

    def resample_chunk(self, samples: np.ndarray, last: bool) -> np.ndarray:
        """Take float32 [n]; returns the float32 samples that are ready."""
        self.waiting.append(samples)
        size = sum(map(len, self.waiting))
        if not last and size < self.lead + _RESAMPY_BLOCK + self.context + self.period:
            return np.zeros(0, np.float32)
        block = np.concatenate(self.waiting)
        end = size if last else (size - self.context) // self.period * self.period
        new_start, new_end = (position * self.new_rate // self.rate for position in (self.lead, end))
        result = self._resample(block)[new_start:new_end]
        self.waiting, self.lead = [block[end - self.context :]], self.context
        return result

    def _resample(self, block: np.ndarray) -> np.ndarray:
        if self.rate == self.new_rate or len(block) * self.new_rate < self.rate:  # resampy refuses an empty result
            return block[: len(block) * self.new_rate // self.rate]
        import resampy

        exact = resampy.resample(block.astype(np.float64), self.rate, self.new_rate, filter="kaiser_best")
        # Rounded towards zero: the published code truncates to int16, and the same integer has to come out of it.
        rounded = exact.astype(np.float32)
        return np.where(np.abs(rounded) > np.abs(exact), np.nextafter(rounded, np.float32(0)), rounded)
