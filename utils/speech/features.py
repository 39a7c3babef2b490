"""Speech features indexed by time (seconds), for mel, DeepSpeech and Whisper.

Time is divided into audio frames of 40 ms (a frame of 25 fps video); a feature kind has one or more rows for each.
"""

from dataclasses import dataclass

import numpy as np

AUDIO_FRAME_RATE = 25
"""Audio frames per second."""


@dataclass(frozen=True)
class FeatureKind:
    """A kind of speech feature: `channels` numbers per row, `rows_per_frame` rows per audio frame of 40 ms."""

    name: str
    channels: int
    rows_per_frame: int

    @property
    def rate(self) -> int:
        """Rows per second."""
        return AUDIO_FRAME_RATE * self.rows_per_frame


KINDS = {
    kind.name: kind
    for kind in (FeatureKind("mel", 80, 4), FeatureKind("deepspeech", 29, 1), FeatureKind("whisper", 384, 2))
}
"""All kinds by name, as `--audio_feature` and checkpoints name them."""


@dataclass(frozen=True)
class SpeechFeatures:
    """Features of one recording: `values` float32 [T, channels], row j at j / kind.rate seconds."""

    kind: FeatureKind
    values: np.ndarray

    def __post_init__(self):
        if self.values.ndim != 2 or len(self.values) == 0 or self.values.shape[1] != self.kind.channels:
            raise ValueError(f"{self.kind.name} features need shape [T, {self.kind.channels}], not {self.values.shape}")

    def window(self, times: np.ndarray, frames: int = 5) -> np.ndarray:
        """Rows around the given times.

        The window of time t holds `frames` audio frames; the one in the middle starts at t. Between rows, values are
        interpolated linearly; beyond the ends, the first and last rows are repeated. At multiples of 40 ms the
        window of "deepspeech" is rows n - 2 .. n + 2 of the published code.

        Args:
            times: float [B] seconds.
            frames: audio frames in a window: 5 for the generator, 9 for SyncNet.

        Returns:
            float32 [B, channels, frames * rows_per_frame].
        """
        rows = self.kind.rows_per_frame
        first = (np.asarray(times, np.float64) * AUDIO_FRAME_RATE - frames // 2) * rows
        # Rounded: n / 25 * 25 is not always n, and a multiple of 40 ms is to give exact rows.
        position = np.round(first[:, None] + np.arange(frames * rows), 6)
        below = np.floor(position)
        fraction = (position - below).astype(np.float32)[..., None]
        last = len(self.values) - 1
        left = self.values[np.clip(below, 0, last).astype(np.int64)]
        right = self.values[np.clip(below + 1, 0, last).astype(np.int64)]
        return np.ascontiguousarray((left * (1 - fraction) + right * fraction).transpose(0, 2, 1), dtype=np.float32)
