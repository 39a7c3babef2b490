from fractions import Fraction

import numpy as np
import pytest

from utils.evaluation.lip_metrics import compare_openings, lag_curve, landmark_distance, lips_and_sound
from utils.face.analysis import analyze_video
from utils.media.audio import Waveform, load_waveform, write_wav
from utils.speech.mel import mel_features

CONFIRMED_CLIPS = ("woman_address_512", "hdtf_man_glasses_512", "studio_actor_1080p_30fps", "stage_woman_256_30fps")


def test_lag_is_positive_where_the_second_is_late():
    signal = np.random.default_rng(3).normal(size=200)
    assert lag_curve(signal[3:], signal[:-3]).lag == 3
    assert lag_curve(signal[:-5], signal[5:]).lag == -5
    curve = lag_curve(signal, signal)
    assert (curve.lag, curve.unshifted) == (0, pytest.approx(1))
    assert np.isnan(lag_curve(signal, np.zeros(200)).lag), "still lips have no lag"
    assert np.isnan(lag_curve(signal[:10], signal[:10]).lag), "too short"


def synthetic_lips(opening):
    points = np.zeros((len(opening), 68, 2), np.float32)
    points[:, 45, 0] = 100
    points[:, 66, 1] = opening
    return points


def test_lips_late_by_three_frames_and_their_distance():
    opening = 10 + np.random.default_rng(4).normal(size=100).cumsum()
    true = synthetic_lips(np.abs(opening))
    assert compare_openings(true[3:], true[:-3]).lag == 3
    moved = true.copy()
    moved[:, 48:68, 0] += 5
    everything, mouth = landmark_distance(true, moved)
    assert mouth == pytest.approx(0.05)
    assert everything == pytest.approx(0.05 * 20 / 68)


@pytest.mark.parametrize("late", [-4, 0, 3])
def test_lag_of_the_audio(late):
    rng = np.random.default_rng(5)
    opening = np.abs(np.convolve(rng.normal(size=160), np.ones(4), "same"))
    level = np.repeat(np.roll(opening, late), 4)[:, None] + rng.normal(0, 0.1, (640, 80))
    curve = lips_and_sound(synthetic_lips(10 * opening), level)
    assert curve.lag == late
    assert curve.peak > 0.9


@pytest.mark.clips
def test_audio_late_by_three_frames_is_found_on_real_clips(clips_dir, tmp_path):
    found = {}
    for name in CONFIRMED_CLIPS:
        path = clips_dir / f"{name}.mp4"
        prepared = analyze_video(path)
        points = prepared.plan.points[prepared.reader.timeline(Fraction(25))]
        sound = load_waveform(path, "--clips")
        late = Waveform(np.concatenate([np.zeros(3 * 640, np.float32), sound.samples]), sound.rate)
        write_wav(tmp_path / "late.wav", late)
        before, after = (
            lips_and_sound(points, mel_features(w)) for w in (sound, load_waveform(tmp_path / "late.wav", "x"))
        )
        found[name] = after.lag - before.lag
    assert found == dict.fromkeys(CONFIRMED_CLIPS, 3)
