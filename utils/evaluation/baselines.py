"""Trivial baselines that a dub has to beat."""

from dataclasses import replace
from pathlib import Path

import torch

from utils.dubbing.engine import Dubber
from utils.dubbing.run import Speech
from utils.dubbing.settings import DubbingJob, DubbingOptions
from utils.errors import UserError
from utils.evaluation.clips import cut_audio, video_seconds
from utils.evaluation.comparison import MOUTH_REGION_SIZE, Comparison
from utils.face.crop_geometry import mouth_region
from utils.speech.extractor import FeatureExtractor

UNTOUCHED, PASTED, PASTED_MEAN = "untouched source", "pasted reference", "pasted mean"
MIDDLE_REFERENCE = 2
"""Of the five references, which go from the closed mouth to the open one."""


class PastedMouth:
    """Generator that pastes the mouth square of a reference frame, or the mean of all five, whatever the audio is."""

    mouth_region_size = MOUTH_REGION_SIZE
    device = torch.device("cpu")

    def __init__(self, mean: bool):
        self._mean = mean

    def set_references(self, references: torch.Tensor) -> None:
        """Take the references, [5, 3, H, W] in [0, 1]."""
        mouth = references[(..., *mouth_region(MOUTH_REGION_SIZE))]
        self._mouth = mouth.mean(0) if self._mean else mouth[MIDDLE_REFERENCE]

    def __call__(self, crops: torch.Tensor, audio: torch.Tensor, first_row: int = 0) -> torch.Tensor:
        """Return crops [B, 3, H, W] with the mouth replaced."""
        del audio, first_row
        pasted = crops.clone()
        pasted[(..., *mouth_region(MOUTH_REGION_SIZE))] = self._mouth
        return pasted


class UntouchedMouth:
    """Generator that returns the true images: the loss by cutting, pasting and encoding alone."""

    mouth_region_size = MOUTH_REGION_SIZE
    device = torch.device("cpu")

    def set_references(self, references: torch.Tensor) -> None:
        """References are not used."""

    def __call__(self, crops: torch.Tensor, audio: torch.Tensor, first_row: int = 0) -> torch.Tensor:
        """Return crops [B, 3, H, W] unchanged."""
        return crops


def make_baselines(comparison: Comparison, folder: Path, landmark_dir: Path | None) -> list[Comparison]:
    """Make the baselines of a dub: the untouched source, a pasted reference and the mean of the references.

    With its own audio, the untouched source is cut, pasted and encoded as a dub is: no dub can be nearer to the truth.

    Raises:
        UserError: there is no audio to go with them.
    """
    if comparison.audio is None:
        raise UserError(
            f"--baselines: neither {comparison.generated} nor {comparison.reference} has sound, which sets their "
            "length; leave the option out"
        )
    rows = []
    generators = {PASTED: PastedMouth(mean=False), PASTED_MEAN: PastedMouth(mean=True)}
    if comparison.same_audio:
        generators = {UNTOUCHED: UntouchedMouth()} | generators
    else:
        rows.append(replace(comparison, row=UNTOUCHED, generated=comparison.reference))
    audio = cut_audio(
        comparison.audio,
        video_seconds(comparison.reference),
        folder / f"{comparison.clip}_{comparison.task}.wav",
        comparison.audio_option,
        comparison.same_audio,
    )
    for row, generator in generators.items():
        path = folder / f"{comparison.clip}_{comparison.task}_{row.replace(' ', '_')}.mp4"
        dubber = Dubber(
            generator, _mel_speech, landmark_dir, DubbingOptions(blend="feather")
        )  # adds nothing of its own
        dubber.dub(
            DubbingJob(comparison.reference, audio, path, source_option="--baselines", audio_option="--baselines")
        )
        rows.append(replace(comparison, row=row, generated=path))
    return rows


def _mel_speech(path: Path) -> Speech:
    features, duration = FeatureExtractor("mel").extract(path, "--baselines")
    return Speech(features, duration, path)
