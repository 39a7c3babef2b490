"""Weights of the perceptual loss."""

import urllib.error

import pytest
import torch
from helpers.training_data import PROJECT

from utils.distributed import DistInfo
from utils.errors import UserError
from utils.training.vgg_weights import load_perceptual_network

VGG16 = PROJECT / "asserts/demo/vgg16_relu3_1.pth"


def test_without_the_network_one_line_says_where_to_get_vgg19(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(UserError) as caught:
        load_perceptual_network(None, DistInfo())
    message = str(caught.value)
    assert "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth" in message and "\n" not in message
    assert str(tmp_path / "hub/checkpoints/vgg19-dcbb9e9d.pth") in message and "no route to host" in message


def test_vgg16_weights_of_half_precision_serve_too():
    network = load_perceptual_network(VGG16, DistInfo())
    features = network(torch.rand(1, 3, 32, 32))
    assert [feature.shape[1] for feature in features] == [64, 128, 256]
    assert all(feature.dtype == torch.float32 for feature in features)
