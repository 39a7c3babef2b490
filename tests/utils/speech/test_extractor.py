"""Audio files as speech features."""

from pathlib import Path

import numpy as np
import pytest
from helpers.speech_signal import speech_like

from utils.errors import UserError
from utils.media.audio import Waveform, write_wav
from utils.speech.extractor import FeatureExtractor
from utils.speech.features import KINDS


class TestExtract:
    def test_mel_of_a_file_and_its_length(self, tmp_path: Path):
        write_wav(tmp_path / "a.wav", Waveform(speech_like(1.23456), 16000))
        features, duration = FeatureExtractor("mel").extract(tmp_path / "a.wav", "--driving_audio_path")
        assert duration == round(1.23456 * 16000) / 16000
        assert features.kind == KINDS["mel"]
        assert features.values.shape == (124, 80)

    def test_silence_is_refused(self, tmp_path: Path):
        write_wav(tmp_path / "a.wav", Waveform(np.zeros(16000, np.float32), 16000))
        with pytest.raises(UserError, match=r"--driving_audio_path: .*a\.wav is silent"):
            FeatureExtractor("mel").extract(tmp_path / "a.wav", "--driving_audio_path")

    def test_unknown_kind(self):
        with pytest.raises(
            UserError, match="--audio_feature: 'hubert' is unknown; choose one of mel, deepspeech, whis"
        ):
            FeatureExtractor("hubert")
