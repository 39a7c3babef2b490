"""Pauses of the speech, and how far the lips are closed in them: the generator alone moves them on in silence."""

import numpy as np

from utils.dubbing.blending import smoothstep
from utils.media.audio import Waveform

MIN_PAUSE_SECONDS = 0.3
"""Shorter pauses leave the lips alone: they are part of speech, such as the silence before a p."""
RAMP_SECONDS = 0.16
"""Time in which the lips close at the beginning of a pause, and open before its end."""
SILENCE_DB = -35.0
"""Level below which there is silence, relative to that of the speech."""
_HOP_SECONDS = 0.02
_SPEECH_PERCENTILE = 95


def find_pauses(waveform: Waveform) -> np.ndarray:
    """Pauses of at least MIN_PAUSE_SECONDS, float64 [P, 2]: first and last moment in seconds.

    A moment is silent where its level (root mean square over 20 ms) lies SILENCE_DB below the speech's, which is that
    of the loudest twentieth of the recording. Speech over steady noise or music has no pauses.
    """
    hop = max(1, round(_HOP_SECONDS * waveform.rate))
    count = -(-len(waveform.samples) // hop)
    power = np.zeros(count * hop, np.float32)
    power[: len(waveform.samples)] = waveform.samples
    power = (power.reshape(count, hop) ** 2).mean(1)
    silent = power <= np.percentile(power, _SPEECH_PERCENTILE) * 10 ** (SILENCE_DB / 10)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], silent, [False]]).astype(np.int8))).reshape(-1, 2)
    pauses = edges * (hop / waveform.rate)
    return pauses[pauses[:, 1] - pauses[:, 0] >= MIN_PAUSE_SECONDS]


def closed_lips(times: np.ndarray, pauses: np.ndarray) -> np.ndarray:
    """How far the lips are closed at some moments: 0 in speech, 1 well inside a pause, smooth between them.

    Args:
        times: seconds, [N].
        pauses: [P, 2] of find_pauses.

    Returns:
        float64 [N] in [0, 1].
    """
    if len(pauses) == 0:
        return np.zeros(len(times))
    depth = np.minimum(times[:, None] - pauses[:, 0], pauses[:, 1] - times[:, None]).max(1)
    return smoothstep(depth / RAMP_SECONDS)
