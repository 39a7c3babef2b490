"""benchmark.py: the published procedure is what it says, and every command measures it against ours."""

import json
import sys
from functools import partial

import av
import cv2
import numpy as np
import pytest
import torch
from helpers.sample_media import write_face_video, write_speech
from helpers.training_data import write_perceptual_weights

import benchmark
from config.benchmark import BenchmarkParser
from config.parser import make_settings
from dataset.manifest import read_manifest
from models.dinet import FEATURE_CHANNELS, AdaAT, DINet
from utils.benchmark.generators import Generators
from utils.benchmark.published_generator import VolumeAdaAT, load_published_code, random_dinet, with_published_sampling
from utils.benchmark.published_inference import PublishedDubbing
from utils.benchmark.published_training import PublishedSamples
from utils.benchmark.settings import InferenceBenchmark, TrainingBenchmark
from utils.errors import UserError
from utils.face.landmarks import follow_face
from utils.face.tracker import FaceTracker
from utils.media.video_reader import VideoReader
from utils.training.settings import NetworkSettings

SETTINGS = {"inference": InferenceBenchmark, "training": TrainingBenchmark}


def settings(*arguments):
    options = BenchmarkParser().parse_args([str(argument) for argument in arguments])
    return make_settings(SETTINGS[options.command], options)


def test_the_published_adaat_and_the_factored_one_agree():
    torch.manual_seed(0)
    own, published = AdaAT(16, 32), VolumeAdaAT(16, 32)
    published.load_state_dict(own.state_dict())
    feature, embedding = torch.randn(2, 32, 13, 10), torch.randn(2, 16)
    assert torch.allclose(own(feature, embedding), published(feature, embedding), atol=2e-4)


def test_the_published_generator_samples_a_volume(monkeypatch):
    """The whole generator, not AdaAT alone: `DINet` calls the parts of AdaAT."""
    sample = torch.nn.functional.grid_sample
    seen = []

    def counted(feature, grid, *args, **named):
        seen.append(feature.shape)
        return sample(feature, grid, *args, **named)

    monkeypatch.setattr(torch.nn.functional, "grid_sample", counted)
    inputs = torch.rand(1, 3, 52, 40), torch.rand(1, 15, 52, 40), torch.randn(1, 80, 20)
    with torch.no_grad():
        published = random_dinet(80, 32, published=True)(*inputs)
        assert seen == [(1, 1, 32, 13, 10)]
        own = random_dinet(80, 32)(*inputs)
    assert [len(shape) for shape in seen] == [5, 4]
    assert torch.allclose(published, own, atol=1e-4)


def test_the_published_sampling_keeps_trained_weights():
    torch.manual_seed(1)
    network = DINet(audio_channel=29, feature_channel=16)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    after = with_published_sampling(network).state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


STAND_IN = """
import torch
from torch import nn
from sync_batchnorm import Norm
from models.blocks import WIDTH

class DINet(nn.Module):
    def __init__(self, source_channel, ref_channel, audio_channel):
        super().__init__()
        self.conv = nn.Conv2d(source_channel + ref_channel, 3, WIDTH, padding=1)
        self.norm = Norm(3)
        self.audio = nn.Linear(audio_channel, 3)

    def forward(self, source, ref, audio):
        code = self.audio(audio.mean(2))[..., None, None]
        return torch.sigmoid(self.norm(self.conv(torch.cat([source, ref], 1))) + code)
"""


def write_stand_in(folder):
    """A checkout with the interface of the original repository's generator, and package names that are ours, too."""
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "DINet.py").write_text(STAND_IN)
    (folder / "models" / "blocks.py").write_text("WIDTH = 3\n")
    (folder / "sync_batchnorm").mkdir()
    (folder / "sync_batchnorm" / "__init__.py").write_text("from torch.nn import BatchNorm2d as Norm\n")
    return folder


def test_the_generator_of_a_checkout_is_loaded_beside_ours(tmp_path):
    import models.blocks

    network = load_published_code(write_stand_in(tmp_path / "DINet"), 80)
    assert not network.training
    result = network(torch.rand(1, 3, 52, 40), torch.rand(1, 15, 52, 40), torch.randn(1, 80, 20))
    assert result.shape == (1, 3, 52, 40)
    assert sys.modules["models.blocks"] is models.blocks and hasattr(models.blocks, "SameBlock")
    assert str(tmp_path / "DINet") not in sys.path and "sync_batchnorm" not in sys.modules


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (None, r"^--published_code: .* holds no models/DINet.py; give a checkout of the original repository$"),
        ("import no_such_module", r"^--published_code: the generator in .* cannot be loaded \(ModuleNotFoundError: .*"),
        ("class DINet: pass", r"^--published_code: .* cannot be loaded \(TypeError: .*"),
    ],
)
def test_a_folder_that_is_no_checkout_is_named(tmp_path, code, message):
    if code is not None:
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "DINet.py").write_text(code)
    with pytest.raises(UserError, match=message):
        load_published_code(tmp_path, 80)


def test_synthetic_data_serves_training(tmp_path):
    videos = read_manifest(benchmark.make_synthetic_data(tmp_path))
    sample = PublishedSamples(videos, 4, 64)[1]
    assert [tuple(part.shape) for part in sample] == [(3, 104, 80), (3, 104, 80), (15, 104, 80), (29, 5)]
    assert sample[1][:, 32:96, 8:72].abs().max() == 0 and sample[0].max() <= 1


def test_a_mouth_region_too_small_for_the_discriminator_is_refused():
    with pytest.raises(UserError, match=r"^--mouth_region_size: 32 has crops of 40 x 52 .* use 64 or more$"):
        benchmark.training(settings("training", "--mouth_region_size", 32))


def test_both_loops_are_measured_in_one_run(tmp_path, monkeypatch):
    narrow = partial(NetworkSettings, feature_channel=64, D_block_expansion=16)  # a tenth of the time
    for module in ("utils.training.settings", "utils.benchmark.published_training"):
        monkeypatch.setattr(f"{module}.NetworkSettings", narrow)
    vgg = write_perceptual_weights(tmp_path / "vgg.pth")
    options = ["training", "--batch_size", 2, "--steps", 1, "--rounds", 1, "--mouth_region_size", 64]
    figures = benchmark.training(settings(*options, "--perceptual_weights", vgg))
    assert figures["times_published"]["published"] == 1
    assert figures["times_published"]["off"] > 0.3
    assert 0 <= figures["data_wait"]["off"] < 1
    json.dumps(figures)


def test_every_variant_of_the_generator_is_measured_and_agrees(tmp_path):
    checkout = write_stand_in(tmp_path / "DINet")
    options = settings(
        *("inference", "--mouth_region_size", 32, "--feature_channel", 16, "--rounds", 1, "--device", "cpu"),
        *("--threads", 1, "--convolutions", "direct", "winograd", "--published_code", checkout),
    )
    generators = Generators(options, torch.device("cpu"))
    figures = benchmark.measure_generator(options, generators, 32, torch.device("cpu"), {"fp32": 1e11})
    names = {"published", "published_code", "fp32", "fp32, direct", "fp32, winograd"}
    assert figures["frames_per_second"].keys() == names
    assert figures["times_published_code"]["published_code"] == figures["times_published"]["published"] == 1
    assert all(difference < 1e-4 for difference in figures["largest_difference"].values())
    flops = figures["direct_flop_per_frame"]
    assert flops["fp32"] == flops["fp32, direct"] < 0.7 * flops["published"]
    json.dumps(figures)


def test_published_weights_record_nothing_and_take_deepspeech(tmp_path):
    network = DINet(audio_channel=29, feature_channel=FEATURE_CHANNELS)
    torch.save({"state_dict": {"net_g": network.state_dict()}}, tmp_path / "published.pth")
    options = settings("inference", "--checkpoint", tmp_path / "published.pth", "--device", "cpu", "--threads", 1)
    generators = Generators(options, torch.device("cpu"))
    assert generators.audio_feature == "deepspeech"
    generators.ours(29, "fp32", 256)


@pytest.mark.slow
def test_a_dub_is_measured_against_the_published_procedure(tmp_path):
    source = tmp_path / "face.mp4"
    write_face_video(source, 10)
    speech = write_speech(tmp_path / "speech.wav", 0.4)
    options = ["inference", "--source_video_path", source, "--driving_audio_path", speech, "--seconds", 0.2,
               "--mouth_region_size", 32, "--rounds", 1, "--device", "cpu",
               "--figure_path", tmp_path / "time.png"]  # fmt: skip
    figures = benchmark.inference(settings(*options))
    assert figures["generator"][32]["times_published"]["fp32"] > 0.5
    dub = figures["dubbing"]["mouth 32, source 512, 0.2 s"]
    assert {"extract frames", "generator", "paste", "encode"} <= dub["busy_seconds"]["published"].keys()
    assert {"decode", "references", "generator", "blend", "encode"} <= dub["busy_seconds"]["fp32"].keys()
    assert figures["generator"][32]["direct_flop_per_frame"]["fp32"] > 1e9
    assert 0 < figures["generator"][32]["direct_flop_share_of_peak"]["published"] < 1.5
    assert cv2.imread(str(tmp_path / "time.png")).shape[1] > 800
    json.dumps(figures)


def test_the_published_dub_is_a_whole_video(tmp_path):
    """Its parts are the published ones: a network that gives its input back leaves black where the mouth was."""
    source = tmp_path / "face.mp4"
    write_face_video(source, 10)
    speech = write_speech(tmp_path / "speech.wav", 0.4)
    points = detected(source)
    dubbing = PublishedDubbing(lambda masked, references, audio: masked, 64, torch.device("cpu"), tmp_path)
    assert dubbing.dub(source, points, np.zeros((12, 80, 20), np.float32), speech, tmp_path / "result.mp4") == 12
    with av.open(str(tmp_path / "result.mp4")) as container:
        assert container.streams.audio and container.streams.video[0].codec_context.name == "mpeg4"
        pictures = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(pictures) == 12
    x, y = points[0, 62]
    assert pictures[0][int(y), int(x)] < 20


def detected(source):
    tracker = FaceTracker(25)
    frames = list(VideoReader(source).frames())
    for frame in frames:
        tracker.add(frame.luma)
    return follow_face(tracker.finish(np.zeros(1, int)), len(frames), np.zeros(1, int))
