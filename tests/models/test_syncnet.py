"""SyncNet against its golden output, and its initialisation."""

import pytest
import torch
import torch.nn.functional as F
from golden.networks import (
    BATCH,
    MOUTH,
    normal_tensor,
    syncnet,
    uniform_tensor,
)
from helpers.differences import largest_difference

from models.syncnet import SyncNet, lsuv_init_


class TestSyncNet:
    def test_score_map_is_golden(self, golden_forward):
        with torch.no_grad():
            score = syncnet()(uniform_tensor(1004, BATCH, 15, MOUTH, MOUTH), normal_tensor(1005, BATCH, 29, 9))
        assert largest_difference(score, golden_forward["syncnet"]) < 1e-4

    @pytest.mark.parametrize(("mouth", "size"), [(64, 2), (128, 4), (256, 8)])
    def test_score_map_grows_with_the_mouth(self, mouth, size):
        network = SyncNet(in_channel_audio=80)
        with torch.no_grad():
            assert network(torch.rand(1, 15, mouth, mouth), torch.randn(1, 80, 36)).shape == (1, 1, size, size)


def test_syncnet_is_trained_from_weights_that_tell_motion_from_persons():
    torch.manual_seed(0)
    network = SyncNet()
    stills = F.interpolate(torch.rand(8, 3, 8, 8), scale_factor=8, mode="bilinear").repeat(1, 5, 1, 1)
    mouths = (stills + 0.1 * F.interpolate(torch.randn(8, 15, 8, 8), scale_factor=8, mode="bilinear")).clamp(0, 1)
    audio = torch.randn(8, 29, 9)

    def spread(pictures: torch.Tensor) -> float:
        with torch.no_grad():
            codes = network.face_encoder(pictures)
        return (codes.std(0).mean() / codes.mean()).item()

    assert spread(mouths) < 1e-3  # PyTorch's own initialisation
    lsuv_init_(network, mouths, audio)
    assert spread(mouths) > 0.5
    assert spread(stills) < 1e-3  # mouths that do not move look alike, whoever's they are
    with torch.no_grad():
        scores = network(mouths, audio)
    assert scores.mean().item() == pytest.approx(0.5, abs=0.01) and scores.std().item() == pytest.approx(0.1, rel=0.1)
