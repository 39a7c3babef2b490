"""Log-mel spectrograms."""

from pathlib import Path

import numpy as np
import pytest
from helpers.speech_signal import speech_like

from utils.media.audio import Waveform
from utils.speech.extractor import FeatureExtractor
from utils.speech.mel import mel_features, mel_filters


class TestMel:
    def test_rows_cover_the_sound(self):
        for samples in (1, 159, 160, 161, 16000, 16001):
            waveform = Waveform(speech_like(2)[4000 : 4000 + samples], 16000)
            assert mel_features(waveform).shape == (int(np.ceil(samples / 160)), 80)

    def test_a_row_is_centred_on_its_time(self):
        samples = np.zeros(16000, np.float32)
        samples[160 * 37] = 1
        loudness = mel_features(Waveform(samples, 16000)).mean(axis=1)
        assert loudness.argmax() == 37
        assert loudness[36] == pytest.approx(loudness[38], abs=0.05)

    def test_pitch_of_a_tone_is_in_its_band(self):
        def loudest(frequency: float) -> int:
            tone = 0.3 * np.sin(2 * np.pi * frequency * np.arange(16000) / 16000).astype(np.float32)
            return int(mel_features(Waveform(tone, 16000))[50].argmax())

        bands = [loudest(frequency) for frequency in (100, 300, 1000, 3000, 7000)]
        assert bands == sorted(set(bands))
        assert bands[0] < 5 and bands[-1] > 70

    def test_level_of_the_recording_does_not_matter(self):
        voice = speech_like(5)
        loud = mel_features(Waveform(voice, 16000))
        for gain in (0.5, 0.01):
            np.testing.assert_allclose(mel_features(Waveform(voice * np.float32(gain), 16000)), loud, atol=2e-3)

    def test_pauses_and_clicks_do_not_matter(self):
        voice = speech_like(5)
        alone = mel_features(Waveform(voice, 16000))
        long_pause = mel_features(Waveform(np.concatenate([voice, np.zeros(15 * 16000, np.float32)]), 16000))
        assert np.abs(long_pause[:495] - alone[:495]).mean() < 0.15
        clicked = voice.copy()
        clicked[40000] = 1
        assert np.abs(mel_features(Waveform(clicked, 16000)) - alone)[:240].max() < 0.15

    def test_blocks_do_not_show(self):
        waveform = Waveform(speech_like(3.333), 16000)
        whole = mel_features(waveform)
        for rows in (1, 50, 97):
            np.testing.assert_allclose(mel_features(waveform, rows), whole, atol=1e-4)

    def test_it_is_librosas_spectrogram(self, monkeypatch):
        librosa = pytest.importorskip("librosa")
        filters = librosa.filters.mel(sr=16000, n_fft=512, n_mels=80, fmin=50, fmax=7600, norm=None)
        np.testing.assert_allclose(mel_filters(80), filters, atol=1e-6)
        voice = speech_like(3)
        voice[20000:24000] = 0
        own = mel_features(Waveform(voice, 16000))

        def librosas_power(samples: np.ndarray) -> np.ndarray:
            spectrum = librosa.stft(samples, n_fft=512, hop_length=160, win_length=400, center=False)
            return np.square(np.abs(spectrum)).T

        monkeypatch.setattr("utils.speech.mel.power_spectrum", librosas_power)
        monkeypatch.setattr("utils.speech.mel.mel_filters", lambda bands: filters)
        np.testing.assert_allclose(own, mel_features(Waveform(voice, 16000)), atol=3e-6)

    @pytest.mark.clips
    def test_scale_of_real_speech(self, clips_dir: Path):
        for name in ("woman_address_512.mp4", "webcam_b1_256_30fps.mp4"):
            features, duration = FeatureExtractor("mel").extract(clips_dir / name, "-")
            assert len(features.values) == int(np.ceil(round(duration * 16000) / 160))
            assert abs(features.values.mean()) < 0.5
            assert features.values.std() == pytest.approx(1, abs=0.3)
