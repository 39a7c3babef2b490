"""The benchmark's baseline does what the published loop does."""

import json

import torch
from training_data import write_perceptual_weights

import benchmark
from config.benchmark import BenchmarkParser
from dataset.manifest import read_manifest
from models.dinet import AdaAT


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


def test_both_loops_are_measured_in_one_run(tmp_path):
    vgg = write_perceptual_weights(tmp_path / "vgg.pth")
    options = ["training", "--batch_size", "2", "--steps", "1", "--rounds", "1", "--mouth_region_size", "64"]
    figures = benchmark.training(BenchmarkParser().parse_args([*options, "--perceptual_weights", str(vgg)]))
    assert figures["times_published"]["published"] == 1
    assert figures["times_published"]["off"] > 0.3
    assert 0 <= figures["data_wait"]["off"] < 1
    json.dumps(figures)
