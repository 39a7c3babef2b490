"""Discriminators against their golden outputs."""

import pytest
import torch
from golden.networks import (
    BATCH,
    HEIGHT,
    WIDTH,
    discriminator,
    uniform_tensor,
)
from helpers.differences import largest_difference

from models.discriminator import Discriminator, min_image_side


class TestDiscriminator:
    @pytest.mark.parametrize(("name", "channels"), [("dI", 3), ("dV", 15)])
    def test_score_map_is_golden(self, name, channels, golden_forward):
        with torch.no_grad():
            outputs, score = discriminator(channels)(uniform_tensor(1003, BATCH, channels, HEIGHT, WIDTH))
        assert largest_difference(score, golden_forward[name]) < 1e-4
        assert [x.shape[1] for x in outputs] == [128, 256, 256, 256]

    @pytest.mark.parametrize("blocks", [1, 3, 4, 5])
    def test_smallest_image(self, blocks):
        network, side = Discriminator(3, 4, blocks, 8), min_image_side(blocks)
        assert network(torch.rand(1, 3, side, side))[1].shape == (1, 1, 1, 1)
        with pytest.raises(RuntimeError, match="Kernel size"):
            network(torch.rand(1, 3, side, side - 1))
