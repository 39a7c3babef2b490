"""The generator as ONNX graphs: ONNX Runtime gives what PyTorch gives, for every batch, speech and mouth size."""

import copy
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from golden.networks import generator

import export_weights
from config.export_weights import ExportParser
from models.dinet import DINet
from models.syncnet import SyncNet
from utils.checkpoints import SYNCNET, Metadata, load_network, read_checkpoint, write_checkpoint
from utils.dubbing.settings import SHIPPED_WEIGHTS
from utils.errors import UserError
from utils.face.crop_geometry import network_size

pytest.importorskip("onnxscript", reason="needs requirements-onnx.txt")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs requirements-onnx.txt")

DOCUMENT = Path(__file__).parent.parent / "docs" / "onnx.md"


def export(checkpoint, folder):
    arguments = ["--checkpoint", checkpoint, "--result_path", folder, "--format", "onnx"]
    export_weights.export(ExportParser().parse_args(list(map(str, arguments))))


def sessions(folder):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    return [
        onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
        for name in ("references.onnx", "frames.onnx")
    ]


@torch.inference_mode()
def difference(network, folder, mouth, batch, rows):
    """Largest difference of the faces, from the same inputs; the references go through their own graph."""
    random = torch.Generator().manual_seed(mouth + batch)
    shape = network_size(mouth)
    reference = torch.rand(1, 15, *shape, generator=random)
    source = torch.rand(batch, 3, *shape, generator=random)
    audio = torch.randn(batch, network.audio_encoder[0].conv.in_channels, rows, generator=random)
    references, frames = sessions(folder)
    features, trans = references.run(None, {"reference": reference.numpy()})
    inputs = {"source": source.numpy(), "audio": audio.numpy(), "features": features, "trans": trans}
    (made,) = frames.run(None, inputs)
    expected = network(source, reference.expand(batch, -1, -1, -1), audio).numpy()
    assert made.shape == expected.shape and expected.std() > 0.01  # not a flat picture, which would fit anything
    return np.abs(made - expected).max()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo weights as graphs, and the network."""
    folder = tmp_path_factory.mktemp("demo") / "onnx"
    export(SHIPPED_WEIGHTS, folder)
    checkpoint = read_checkpoint(SHIPPED_WEIGHTS, "--x")
    network = DINet(audio_channel=384, feature_channel=checkpoint.metadata.feature_channel)
    load_network(network, checkpoint, "net_g", "--x")
    network.max_audio_norm = checkpoint.metadata.max_audio_norm
    return folder, network.eval()


@pytest.mark.parametrize(("mouth", "batch", "rows"), [(64, 1, 10), (64, 3, 18), (96, 2, 10)])
def test_demo_weights(demo, mouth, batch, rows):
    folder, network = demo
    assert difference(network, folder, mouth, batch, rows) < 1e-4


def test_metadata_says_what_the_graphs_need(demo):
    for session in sessions(demo[0]):
        about = session.get_modelmeta().custom_metadata_map
        assert about["mouth_region_size"] == "64" and about["mask"] == "32,96,8,72"
        speech = about["audio_feature"], about["audio_channel"], about["audio_rows_per_frame"]
        assert speech == ("whisper", "384", "2")


def test_the_example_of_the_document_runs_without_this_project(demo, tmp_path):
    code = re.search(r"<!-- example.*?```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[1]
    named = re.search(r'folder = "(.*?)"', code)[1]
    code = (
        code.replace(named, str(demo[0]))
        + "\nimport sys\nprint(picture.shape, picture.std() > 1, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "(104, 80, 3) True False\n", done.stderr


@pytest.mark.slow
def test_published_layout_at_mouth_256(tmp_path):
    """Weights with the published names and shapes, and nothing recorded beside them."""
    network = copy.deepcopy(generator()).eval()
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"epoch": 160, "state_dict": {"net_g": state}}, tmp_path / "published.pth")
    export(tmp_path / "published.pth", tmp_path / "onnx")
    about = sessions(tmp_path / "onnx")[1].get_modelmeta().custom_metadata_map
    assert (about["mouth_region_size"], about["audio_feature"], about["audio_channel"]) == ("256", "deepspeech", "29")
    assert difference(network, tmp_path / "onnx", 256, 2, 5) < 1e-4


def test_what_cannot_be_exported(tmp_path, monkeypatch):
    write_checkpoint(tmp_path / "s.pth", {SYNCNET: SyncNet(in_channel_audio=80)}, {}, 1, Metadata(64, "mel", 80, 4))
    with pytest.raises(
        UserError, match=r"^--checkpoint: .*s.pth is a SyncNet checkpoint; --format onnx takes a DINet generator"
    ):
        export(tmp_path / "s.pth", tmp_path / "onnx")
    with pytest.raises(UserError, match=r"^--result_path: .*s.pth is a file; ONNX graphs go into a folder"):
        export(SHIPPED_WEIGHTS, tmp_path / "s.pth")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"^--format onnx: needs .*not installed; pip install -r requirements-onnx.txt"):
        export(SHIPPED_WEIGHTS, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()
