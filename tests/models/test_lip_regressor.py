"""The network that predicts lip opening and width from a mouth image."""

import torch
from golden.networks import (
    uniform_tensor,
)

from models.lip_regressor import LipShapeRegressor


def test_mouths_of_any_size_are_accepted():
    torch.manual_seed(0)
    reader = LipShapeRegressor().eval()
    small = torch.nn.functional.interpolate(uniform_tensor(1, 2, 3, 8, 8), 64, mode="bicubic")
    large = torch.nn.functional.interpolate(small, 256, mode="bilinear")
    assert torch.allclose(reader(small), reader(large), atol=0.02 * reader(small).std().item() + 5e-3)
    assert torch.isfinite(reader(torch.zeros(1, 3, 64, 64))).all()
    board = 0.2 * (torch.arange(256)[:, None] + torch.arange(256)).remainder(2).mul(2).sub(1)
    assert torch.allclose(reader(large), reader(large + board), atol=0.05 * reader(small).std().item())
