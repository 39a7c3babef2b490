"""The training step of lip regressors."""

import pytest
import torch
from golden.networks import (
    normal_tensor,
)
from helpers.training_steps import trained

from utils.training.lip_step import LipStep


def test_the_reported_correlation_is_that_over_all_batches():
    class Told(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, given):
            return given

    step = LipStep(trained({"net_m": Told()}), "net_m", "mouths", {"opening": lambda lips: lips[:, 0]})
    true = normal_tensor(5, 21, 2) + 3
    told = true + normal_tensor(6, 21, 2)
    totals: dict[str, float] = {}
    for start in range(0, 21, 4):  # the last batch has one sample
        part = slice(start, start + 4)
        for name, value in step.evaluate(lips=true[part], mouths=told[part]).items():
            totals[name] = totals.get(name, 0) + value.item() * len(true[part]) / 21
    figures = step.summarise(totals)
    assert set(figures) == {"lips", "lips_of_rest", "opening_correlation"}
    wanted = torch.corrcoef(torch.stack([true[:, 0], told[:, 0]]))[0, 1].item()
    assert figures["opening_correlation"] == pytest.approx(wanted, abs=1e-4)
    assert step.summarise(dict.fromkeys(totals, 0.0))["opening_correlation"] == 0
