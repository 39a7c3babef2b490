"""DeepSpeech features: input, graph, TensorFlow."""

import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from helpers.deepspeech_graph import write_frozen_graph
from helpers.packages import without_package
from helpers.speech_signal import speech_like

from utils.errors import UserError
from utils.media.audio import Waveform, write_wav
from utils.speech.deepspeech import DeepSpeech, deepspeech_input, import_tensorflow
from utils.speech.extractor import FeatureExtractor
from utils.speech.features import KINDS


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


def test_without_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "output_graph.pb").write_bytes(b"x")
    without_package(monkeypatch, "tensorflow")
    with pytest.raises(UserError, match="pip install tensorflow"):
        DeepSpeech(tmp_path / "output_graph.pb")
