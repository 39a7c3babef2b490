"""Mel features of a live audio stream are those of the whole recording."""

import numpy as np
import pytest

from utils.dubbing.settings import EXAMPLE_AUDIO
from utils.media.audio import load_waveform
from utils.speech.features import KINDS, SpeechFeatures
from utils.speech.mel import mel_features, mel_level
from utils.speech.mel_stream import LOOK_AHEAD, MelStream


class TestMelStream:
    @pytest.fixture(scope="class")
    def speech(self):
        return load_waveform(EXAMPLE_AUDIO, "--x")

    @pytest.mark.parametrize("rate", [25, 30000 / 1001])
    def test_windows_are_those_of_the_whole_recording(self, speech, rate):
        whole = SpeechFeatures(KINDS["mel"], mel_features(speech))
        live, number = MelStream(mel_level(speech)), 0
        random = np.random.default_rng(0)
        position, moments = 0, []
        while position < len(speech.samples):
            step = int(random.integers(1, 3000))
            live.push(speech.samples[position : position + step])
            position += step
            while live.is_ready(number / rate):
                moments.append((number / rate, live.window(np.array([number / rate]))))
                number += 1
        live.finish()
        moments += [(t, live.window(np.array([t]))) for t in np.arange(number, speech.duration * rate) / rate]
        assert len(moments) == int(np.ceil(speech.duration * rate))
        for moment, window in moments:
            np.testing.assert_allclose(window, whole.window(np.array([moment])), atol=1e-5)

    def test_look_ahead(self, speech):
        live = MelStream()
        live.push(speech.samples[: round(16000 * (1 + LOOK_AHEAD))])
        assert live.is_ready(1.0) and not live.is_ready(1.001) and LOOK_AHEAD < 0.15

    def test_level_so_far_becomes_that_of_the_recording(self, speech):
        level, live = mel_level(speech), MelStream()
        known = MelStream(level)
        for start in range(0, len(speech.samples), 640):
            live.push(speech.samples[start : start + 640])
            known.push(speech.samples[start : start + 640])
        moment = np.array([9.0])
        assert np.abs(live.window(moment) - known.window(moment)).max() * 15 < 0.1  # dB

    def test_noise_before_the_first_word_stays_a_pause(self):
        live = MelStream()
        live.push(1e-3 * np.random.default_rng(0).standard_normal(16000))
        assert live.window(np.array([0.5])).mean() < 0
