"""VGG features against a plain stack of layers."""

import pytest
import torch
import torch.nn.functional as F
from golden.networks import (
    uniform_tensor,
    vgg_weights,
)
from helpers.differences import largest_difference

from models.perceptual import PerceptualNetwork


class TestPerceptualNetwork:
    @pytest.mark.parametrize("name", ["VGG16", "VGG19"])
    def test_outputs_are_those_of_the_plain_stack(self, name):
        weights = vgg_weights(name)
        pooled_at = {"VGG16": [4, 9, 16, 23], "VGG19": [4, 9, 18, 27]}[name]
        outputs_at = {"VGG16": [1, 6, 11, 18, 25], "VGG19": [1, 6, 11, 20, 29]}[name]
        images = uniform_tensor(3, 1, 3, 32, 32)
        x = (images - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
            :, None, None
        ]
        expected = []
        for index in range(outputs_at[-1] + 1):  # torchvision's numbering, layer by layer
            if f"features.{index}.weight" in weights:
                x = F.conv2d(x, weights[f"features.{index}.weight"], weights[f"features.{index}.bias"], padding=1)
            else:
                x = F.max_pool2d(x, 2) if index in pooled_at else F.relu(x)
            if index in outputs_at:
                expected.append(x)
        for ours, plain in zip(PerceptualNetwork(weights)(images), expected, strict=True):
            assert largest_difference(ours, plain) < 1e-4

    def test_weights_may_stop_early_and_be_half_precision(self):
        weights = {key: value.half() for key, value in vgg_weights("VGG16").items() if int(key.split(".")[1]) <= 21}
        outputs = PerceptualNetwork(weights)(torch.rand(1, 3, 32, 32))
        assert [tuple(x.shape[1:]) for x in outputs] == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]
        assert outputs[0].dtype == torch.float32

    def test_is_frozen(self):
        assert not any(parameter.requires_grad for parameter in PerceptualNetwork(vgg_weights()).parameters())

    def test_other_weights_are_refused(self):
        weights = vgg_weights()
        with pytest.raises(ValueError, match=r"features\.0\.weight"):
            PerceptualNetwork({"conv.weight": torch.zeros(1)})
        with pytest.raises(ValueError, match=r"features\.5\.bias"):
            PerceptualNetwork({key: value for key, value in weights.items() if key != "features.5.bias"})
        with pytest.raises(ValueError, match=r"features\.0\.weight"):
            PerceptualNetwork(weights | {"features.0.weight": torch.zeros(64, 3, 5, 5)})
