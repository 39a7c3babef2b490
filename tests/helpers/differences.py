"""Differences of tensors."""

import numpy as np
import torch


def largest_difference(result: torch.Tensor, expected: np.ndarray | torch.Tensor) -> float:
    expected = torch.as_tensor(expected)
    assert result.shape == expected.shape
    return (result.detach().float() - expected.float()).abs().max().item()
