"""Audio files to speech features of one kind."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.media.audio import Waveform, check_not_silent, load_waveform
from utils.speech.features import KINDS, SpeechFeatures
from utils.speech.mel import mel_features


class FeatureExtractor:
    """Reads audio as features of one kind. A model that the kind needs is loaded here, once for many files.

    Args:
        kind_name: "mel", "deepspeech" or "whisper".
        deepspeech_model: DeepSpeech 0.1's frozen graph, for "deepspeech".
        whisper_model: for "whisper", see load_whisper; None: the model that comes with DINet.
        deepspeech_option: command line option that `deepspeech_model` came from, for error messages.

    Raises:
        UserError: an unknown kind; a model or package that is missing or unfit.
    """

    def __init__(
        self,
        kind_name: str,
        deepspeech_model: str | Path | None = None,
        whisper_model: str | Path | None = None,
        deepspeech_option: str = "--deepspeech_model_path",
    ):
        if kind_name not in KINDS:
            raise UserError(f"--audio_feature: {kind_name!r} is unknown; choose one of {', '.join(KINDS)}")
        self.kind = KINDS[kind_name]
        self._loading = {"channel": "mean", "resampler": "soxr"}
        self._compute: Callable[[Waveform], np.ndarray]
        if kind_name == "deepspeech":
            from utils.speech.deepspeech import MODEL_HINT, DeepSpeech

            if deepspeech_model is None:
                raise UserError(f"{deepspeech_option}: needed for DeepSpeech features; {MODEL_HINT}")
            self._compute = DeepSpeech(deepspeech_model, deepspeech_option)
            self._loading = {"channel": "first", "resampler": "resampy"}  # as the published weights have seen it
        elif kind_name == "whisper":
            from utils.speech.whisper import load_whisper

            self._compute = load_whisper(whisper_model)
        else:
            self._compute = mel_features

    def extract(self, audio_path: str | Path, option: str) -> tuple[SpeechFeatures, float]:
        """Features of a file, and the exact length of its audio in seconds.

        Args:
            audio_path: audio file, or video with an audio track.
            option: command line option that `audio_path` came from, for error messages.

        Raises:
            UserError: unreadable or silent audio.
        """
        waveform = load_waveform(audio_path, option, **self._loading)
        check_not_silent(waveform, audio_path, option)
        return SpeechFeatures(self.kind, self._compute(waveform)), waveform.duration
