"""Norm of a generator's audio embeddings on the speech it was trained on, to which dubbing limits them."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from models.dinet import DINet
from utils.speech.extractor import FeatureExtractor

QUANTILE = 0.95
"""Fraction of the frames of the training speech whose embedding is below the limit."""
_FRAMES_PER_SECOND, _BATCH = 25, 512


@torch.inference_mode()
def max_audio_norm(network: DINet, extractor: FeatureExtractor, files: Iterable[Path], option: str) -> float:
    """Norm that QUANTILE of the audio embeddings of some speech stay below.

    Args:
        network: in eval mode, without a limit of its own.
        extractor: of the speech features that the network takes.
        files: audio files, or videos with sound.
        option: command line option that named the files, for error messages.

    Raises:
        UserError: a file that cannot be read or is silent.
    """
    norms = []
    for path in files:
        features, duration = extractor.extract(path, option)
        times = np.arange(max(1, int(duration * _FRAMES_PER_SECOND))) / _FRAMES_PER_SECOND
        for part in np.array_split(times, -(-len(times) // _BATCH)):
            embedding = network.encode_audio(torch.from_numpy(features.window(part)))
            norms.append(embedding.norm(dim=1))
    return float(torch.cat(norms).quantile(QUANTILE))
