"""Frozen VGG features of images, for the perceptual loss."""

from collections.abc import Mapping

import torch
from torch import nn

_STAGE_CHANNELS = (64, 128, 256, 512, 512)
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


def _conv_indices(convs_per_stage: tuple[int, ...]) -> list[list[int]]:
    """Indices of torchvision's `features` that are convolutions: each has a ReLU behind it, each stage a pool."""
    stages, index = [], 0
    for convs in convs_per_stage:
        stages.append([index + 2 * i for i in range(convs)])
        index += 2 * convs + 1
    return stages


VGG16_CONVS = _conv_indices((2, 2, 3, 3, 3))
VGG19_CONVS = _conv_indices((2, 2, 4, 4, 4))


class PerceptualNetwork(nn.Module):
    """relu1_1, relu2_1, ... relu5_1 of VGG19 (the published choice) or VGG16, ImageNet weights, frozen.

    Args:
        weights: state dict of torchvision's layout, `features.N.weight` and `features.N.bias`; other entries are
            ignored. The numbering tells the two networks apart. Truncated weights give fewer outputs (four for a
            file that ends with relu4_3).

    Raises:
        ValueError: `weights` is not such a state dict; one line that says why.
    """

    def __init__(self, weights: Mapping[str, torch.Tensor]):
        super().__init__()
        # Entry 16 is the fourth convolution of VGG19's third stage, and a pool in VGG16.
        stages = VGG19_CONVS if "features.16.weight" in weights else VGG16_CONVS
        self.stages = nn.ModuleList()
        before: list[int] = []  # convolutions between the last output and the next one
        channels = 3
        for indices, width in zip(stages, _STAGE_CHANNELS, strict=True):
            if f"features.{indices[0]}.weight" not in weights:
                break
            layers = [layer for index in before for layer in self._conv(weights, index, channels, channels)]
            if self.stages:
                layers.append(nn.MaxPool2d(2))
            self.stages.append(nn.Sequential(*layers, *self._conv(weights, indices[0], channels, width)))
            before, channels = indices[1:], width
        if not self.stages:
            raise ValueError("it holds no VGG weights: `features.0.weight` is missing")
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)

    @staticmethod
    def _conv(weights: Mapping[str, torch.Tensor], index: int, cin: int, cout: int) -> list[nn.Module]:
        conv = nn.Conv2d(cin, cout, 3, padding=1)
        for name, parameter in conv.named_parameters():
            key = f"features.{index}.{name}"
            if key not in weights:
                raise ValueError(f"it holds no VGG16 or VGG19 weights: `{key}` is missing")
            if weights[key].shape != parameter.shape:
                raise ValueError(
                    f"it holds no VGG16 or VGG19 weights: `{key}` is {list(weights[key].shape)} "
                    f"instead of {list(parameter.shape)}"
                )
            parameter.data.copy_(weights[key])
        return [conv, nn.ReLU(inplace=True)]

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps of RGB images [B, 3, H, W] in [0, 1], finest first; five with full weights."""
        x = (images - self.mean) / self.std
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs
