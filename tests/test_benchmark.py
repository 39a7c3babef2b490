"""The benchmark's baseline does what the published loop does."""

import json

import av
import cv2
import numpy as np
import pytest
import torch
from helpers.sample_media import write_face_video, write_speech
from helpers.training_data import write_perceptual_weights

from config.benchmark import BenchmarkParser
from dataset.manifest import read_manifest
from models.dinet import AdaAT
from utils.benchmark import benchmarking as benchmark
from utils.benchmark.published_inference import PublishedDubbing
from utils.errors import UserError
from utils.face.landmarks import follow_face
from utils.face.tracker import FaceTracker
from utils.media.video_reader import VideoReader


def test_the_published_adaat_and_the_factored_one_agree():
    torch.manual_seed(0)
    own, published = AdaAT(16, 32), benchmark.VolumeAdaAT(16, 32)
    published.load_state_dict(own.state_dict())
    feature, code = torch.randn(2, 32, 13, 10), torch.randn(2, 16)
    assert torch.allclose(own(feature, code), published(feature, code), atol=2e-4)


def test_made_up_data_serves_training(tmp_path):
    videos = read_manifest(benchmark.make_up_data(tmp_path))
    sample = benchmark.PublishedSamples(videos, 4, 64)[1]
    assert [tuple(part.shape) for part in sample] == [(3, 104, 80), (3, 104, 80), (15, 104, 80), (29, 5)]
    assert sample[1][:, 32:96, 8:72].abs().max() == 0 and sample[0].max() <= 1


def test_a_mouth_region_too_small_for_the_discriminator_is_refused(tmp_path):
    options = BenchmarkParser().parse_args(["training", "--mouth_region_size", "32"])
    with pytest.raises(UserError, match=r"^--mouth_region_size: 32 has crops of 40 x 52 .* use 64 or more$"):
        benchmark.training(options)


def test_both_loops_are_measured_in_one_run(tmp_path):
    vgg = write_perceptual_weights(tmp_path / "vgg.pth")
    options = ["training", "--batch_size", "2", "--steps", "1", "--rounds", "1", "--mouth_region_size", "64"]
    figures = benchmark.training(BenchmarkParser().parse_args([*options, "--perceptual_weights", str(vgg)]))
    assert figures["times_published"]["published"] == 1
    assert figures["times_published"]["off"] > 0.3
    assert 0 <= figures["data_wait"]["off"] < 1
    json.dumps(figures)


@pytest.mark.slow
def test_a_dub_is_measured_against_the_published_procedure(tmp_path):
    source = tmp_path / "face.mp4"
    write_face_video(source, 10)
    speech = write_speech(tmp_path / "speech.wav", 0.4)
    options = ["inference", "--source_video_path", source, "--driving_audio_path", speech, "--seconds", 0.2,
               "--mouth_region_size", 32, "--rounds", 1, "--device", "cpu",
               "--figure_path", tmp_path / "time.png"]  # fmt: skip
    figures = benchmark.inference(BenchmarkParser().parse_args([str(option) for option in options]))
    assert figures["generator"][32]["times_published"]["fp32"] > 0.5
    dub = figures["dubbing"]["mouth 32, source 512, 0.2 s"]
    assert {"extract frames", "generator", "paste", "encode"} <= dub["busy_seconds"]["published"].keys()
    assert {"decode", "references", "generator", "blend", "encode"} <= dub["busy_seconds"]["fp32"].keys()
    flops = figures["generator"][32]["flop_per_frame"]
    assert 1e9 < flops["fp32"] < 0.7 * flops["published"]
    assert all(0 < share < 1.5 for share in figures["generator"][32]["share_of_peak"].values())
    assert cv2.imread(str(tmp_path / "time.png")).shape[1] > 800
    json.dumps(figures)


def test_the_published_dub_is_a_whole_video(tmp_path):
    """Its parts are the published ones: a network that gives its input back leaves black where the mouth was."""
    source = tmp_path / "face.mp4"
    write_face_video(source, 10)
    speech = write_speech(tmp_path / "speech.wav", 0.4)
    points = detected(source)
    way = PublishedDubbing(lambda masked, references, audio: masked, 64, torch.device("cpu"), tmp_path)
    assert way.dub(source, points, np.zeros((12, 80, 20), np.float32), speech, tmp_path / "result.mp4") == 12
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
