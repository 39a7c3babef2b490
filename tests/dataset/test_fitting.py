"""Fitting weights to the person of a video: what is learnt, kept, found again and refused."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.landmarks import speaking_face
from helpers.sample_media import write_face_video, write_speech

import inference
from dataset import fitting
from dataset.fitting import FitInterruptedError, FitState, _read_state, fit_to_source, fitted_path
from dataset.person_samples import Person, PersonSamples
from models.dinet import DINet
from utils.checkpoints import Metadata, read_checkpoint, write_checkpoint
from utils.dubbing import DubbingOptions, FitSettings, LoadSettings, load_dubber
from utils.dubbing import load as load_module
from utils.errors import UserError
from utils.face.openface_csv import write_openface_csv
from utils.speech.features import KINDS, SpeechFeatures

SECONDS = 4
FRAMES = 25 * SECONDS


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fitting")
    write_speech(folder / "speech.wav", SECONDS)
    write_face_video(folder / "face.mp4", FRAMES, size=256, audio=folder / "speech.wav")
    write_face_video(folder / "silent.mp4", FRAMES, size=256)
    write_face_video(folder / "short.mp4", 30, size=256, audio=folder / "speech.wav")
    moving = 4 + 4 * np.sin(np.arange(FRAMES) / 3)
    write_openface_csv(folder / "face.csv", speaking_face(moving), 25)
    write_openface_csv(folder / "short.csv", speaking_face(moving[:30]), 25)
    write_openface_csv(folder / "still.csv", speaking_face(np.full(FRAMES, 3.0)), 25)
    torch.manual_seed(0)
    network = DINet(audio_channel=80, feature_channel=16)
    write_checkpoint(folder / "mel.pth", {"net_g": network}, {}, 1, Metadata(64, "mel", 80, 4, 16))
    return folder


def fit(media: Path, folder: Path, minutes: float = 0.02, video: str = "face", csv: str = "face", **more) -> Path:
    return fit_to_source(
        media / f"{video}.mp4",
        FitSettings(minutes, folder),
        LoadSettings(more.pop("weights", media / "mel.pth"), landmark_dir=None, device="cpu"),
        DubbingOptions(),
        more.pop("progress", lambda stage, done, total: None),
        media / f"{csv}.csv",
        **more,
    )


def test_fitted_weights_can_be_dubbed_with_and_are_found_again(media, tmp_path, caplog):
    shown = []
    caplog.set_level("INFO")
    path = fit(media, tmp_path, progress=lambda stage, done, total: shown.append((stage, done, total)))
    assert path == fitted_path(media / "face.mp4", media / "mel.pth", tmp_path)
    assert ("crops", FRAMES, FRAMES) in shown and ("fit, seconds", 1, 1) in shown
    checkpoint = read_checkpoint(path, "-")
    assert set(checkpoint.networks) == {"net_g"} and not checkpoint.optimizers
    assert checkpoint.metadata == Metadata(64, "mel", 80, 4, 16)
    state = checkpoint.extra["fit"]
    assert state["finished"] and state["step"] > 0 and state["seconds"] >= 1.2
    assert 0 < state["best"] < np.inf and 0 < state["first"] < np.inf
    assert load_dubber(LoadSettings(path, device="cpu")).generator.mouth_region_size == 64
    written = path.stat().st_mtime_ns
    assert fit(media, tmp_path) == path
    assert path.stat().st_mtime_ns == written and "fitted before" in caplog.text


def test_more_minutes_go_on_from_the_fitted_weights(media, tmp_path):
    path = fit(media, tmp_path)
    before = read_checkpoint(path, "-").extra["fit"]
    fit(media, tmp_path, minutes=0.04)
    after = read_checkpoint(path, "-").extra["fit"]
    assert after["step"] > before["step"] and after["seconds"] >= 2.4
    assert after["first"] == before["first"]


def test_an_interrupted_fit_keeps_what_it_learnt_and_goes_on_from_there(media, tmp_path):
    steps = []
    with pytest.raises(FitInterruptedError):
        fit(media, tmp_path, minutes=10, stopped=lambda: len(steps) == 2 or steps.append(0))
    path = fitted_path(media / "face.mp4", media / "mel.pth", tmp_path)
    kept = read_checkpoint(path, "-")
    assert kept.extra["fit"]["step"] == 3 and not kept.extra["fit"]["finished"]
    assert {"net_g", "net_g_ema", "net_dI"} <= set(kept.networks) and kept.optimizers
    seconds = kept.extra["fit"]["seconds"]
    fit(media, tmp_path, minutes=(seconds + 1) / 60)
    state = read_checkpoint(path, "-").extra["fit"]
    assert state["finished"] and state["step"] > 3
    assert not list(tmp_path.glob("*.partial"))


def test_a_signal_saves_the_progress_once_there_is_some(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)

    def interrupted_fit(*arguments):
        stopped = arguments[-1]
        assert signal.getsignal(signal.SIGTERM) == before  # while landmarks are detected, for example
        assert not stopped()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped()
        raise FitInterruptedError

    monkeypatch.setattr(fitting, "fit_to_source", interrupted_fit)
    with pytest.raises(SystemExit) as ended:
        fitting.fit_until_stopped(None, None, None, None, None)
    assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) == before


def test_a_damaged_file_is_made_again(media, tmp_path, caplog):
    path = fitted_path(media / "face.mp4", media / "mel.pth", tmp_path)
    path.write_bytes(b"nothing")
    fit(media, tmp_path)
    assert "the fit starts again" in caplog.text
    assert read_checkpoint(path, "-").extra["fit"]["finished"]


@pytest.mark.parametrize("entry", [{"step": "x"}, {"seconds": None}, {"finished": 1}, {"more": 2}])
def test_what_stands_in_a_kept_fit_is_not_believed(tmp_path, caplog, entry):
    path = tmp_path / "fitted.pth"
    network = DINet(audio_channel=80, feature_channel=16)
    write_checkpoint(path, {"net_g": network}, {}, 1, Metadata(64, "mel", 80, 4, 16), {"fit": vars(FitState()) | entry})
    assert _read_state(path) == (FitState(), None)
    assert "the fit starts again" in caplog.text


def test_the_fit_ends_where_held_out_frames_do_not_profit(media, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "MIN_REPORT_SECONDS", 0.2)
    monkeypatch.setattr(fitting, "REPORTS", 5000)
    monkeypatch.setattr(fitting._Fit, "_held_out_loss", lambda self: float(self.state.step))
    path = fit(media, tmp_path, minutes=5)
    state = read_checkpoint(path, "-").extra["fit"]
    assert state["finished"] and state["since_best"] == fitting.PATIENCE and state["seconds"] < 250
    assert state["best"] < state["step"], "the weights of the first report are the best"


def test_the_mean_of_fitted_and_original_weights_is_kept(media, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "MIN_REPORT_SECONDS", 0.2)
    monkeypatch.setattr(fitting, "REPORTS", 5000)
    monkeypatch.setattr(fitting._Fit, "_held_out_loss", lambda self: -float(self.state.step))

    def ones(self) -> dict[str, torch.Tensor]:
        state = self.networks.eval_module("net_g").state_dict()
        return {name: torch.ones_like(value) for name, value in state.items()}

    monkeypatch.setattr(fitting._Fit, "_copy_weights", ones)
    original = read_checkpoint(media / "mel.pth", "-").networks["net_g"]
    kept = read_checkpoint(fit(media, tmp_path), "-").networks["net_g"]
    for name, value in original.items():
        if value.is_floating_point():
            torch.testing.assert_close(kept[name].float(), (value.float() + 1) / 2, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("video", "csv", "problem"),
    [
        ("silent", "face", "^--fit: .*silent.mp4 .*sound"),
        ("short", "short", "^--fit: .*short.mp4 has 1.2 s with a face and sound, and 3 s are needed"),
        ("face", "still", "^--fit: .*face.mp4 has sound, but lips that do not move"),
    ],
)
def test_videos_that_teach_nothing_are_refused_in_one_line(media, tmp_path, video, csv, problem):
    with pytest.raises(UserError, match=problem) as error:
        fit(media, tmp_path, video=video, csv=csv)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_weights_for_other_speech_features_are_supervised_by_the_same_audio2lip_network(media, tmp_path, monkeypatch):
    network = DINet(audio_channel=29, feature_channel=16)
    weights = tmp_path / "deepspeech.pth"
    write_checkpoint(weights, {"net_g": network}, {}, 1, Metadata(64, "deepspeech", 29, 1, 16))
    real = fitting.FeatureExtractor

    class Extractor(real):
        def __init__(self, kind, *others):
            super().__init__(kind if kind == "whisper" else "mel")
            self.name = kind

        def extract(self, path, option):
            features, duration = super().extract(path, option)
            if self.name == "deepspeech":  # its graph is not here
                rows = np.random.default_rng(0).standard_normal((FRAMES, 29)).astype(np.float32)
                features = SpeechFeatures(KINDS["deepspeech"], rows)
            return features, duration

    monkeypatch.setattr(fitting, "FeatureExtractor", Extractor)
    path = fit(media, tmp_path, weights=weights)
    assert read_checkpoint(path, "-").metadata.audio_feature == "deepspeech"


def make_person(count: int) -> Person:
    """A person whose crop number n is filled with n."""
    crops = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 104, 80, 3)
    speech = SpeechFeatures(KINDS["mel"], np.arange(4 * count, dtype=np.float32)[:, None].repeat(80, 1))
    return Person(crops, np.arange(count) / 25, np.arange(count) % 7 / 10, speech)


def test_references_are_training_frames_away_from_the_sources_with_all_openings():
    samples = PersonSamples(make_person(200), 1, torch.device("cpu"))
    held_out = set(samples.held_out_frames.tolist())
    assert 15 <= len(held_out) <= 35 and not held_out & set(samples.training_frames.tolist())
    for step in range(20):
        batch = samples.training_batch(step, 2, 3)
        sources = (batch["source"][:, :, 0, 0, 0] * 255).round().int()
        references = (batch["reference"][:, ::3, 0, 0] * 255).round().int()
        assert sources.shape == (2, 3) and references.shape == (2, 5)
        assert not held_out & {*sources.flatten().tolist(), *references.flatten().tolist()}
        assert (references[:, :, None] - sources[:, None]).abs().min() > 8
        openings = references % 7
        assert (openings.diff(dim=1) >= 0).all() and (openings[:, -1] - openings[:, 0] >= 4).all()
    assert torch.equal(samples.training_batch(3, 1, 2)["audio"], samples.training_batch(3, 1, 2)["audio"])


def test_held_out_batches_have_the_speech_of_their_frames():
    samples = PersonSamples(make_person(200), 1, torch.device("cpu"))
    batches = samples.held_out_batches(8, 3)
    assert [batch["source"].shape[1] for batch in batches] == [3, 3, 2]
    for batch in batches:
        frames = (batch["source"][0, :, 0, 0, 0] * 255).round().int().tolist()
        assert set(frames) <= set(samples.held_out_frames.tolist())
        for frame, audio in zip(frames, batch["audio"][0], strict=True):
            assert audio.shape == (80, 20) and audio[0, 8] == 4 * frame


def test_inference_fits_weights_to_each_source_and_dubs_with_them(media, tmp_path, monkeypatch, capsys):
    (tmp_path / "jobs.csv").write_text(
        "source,audio,result,landmarks\n"
        + "".join(f"{media}/face.mp4,{media}/speech.wav,{name}.mp4,{media}/face.csv\n" for name in "ab")
        + f"{media}/silent.mp4,{media}/speech.wav,c.mp4,{media}/face.csv\n"
    )
    monkeypatch.chdir(tmp_path)
    command = ["inference.py", "--jobs", "jobs.csv", "--fit", "0.02", "--fitted_dir", "fitted", "--preset", "ultrafast"]
    monkeypatch.setattr(
        sys, "argv", [*command, "--pretrained_clip_DINet_path", str(media / "mel.pth"), "--device", "cpu"]
    )
    loaded = []
    real = load_module.load_dubber
    monkeypatch.setattr(
        load_module, "load_dubber", lambda settings, how: loaded.append(settings) or real(settings, how)
    )
    assert inference.main() == 1  # of the silent one
    (fitted,) = (tmp_path / "fitted").glob("*.pth")
    assert [settings.pretrained_clip_DINet_path.resolve() for settings in loaded] == [fitted]
    assert {path.name for path in tmp_path.rglob("?.mp4")} == {"a.mp4", "b.mp4"}
