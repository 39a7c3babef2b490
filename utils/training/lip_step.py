"""Training step of lip regressors, from audio or from a mouth image: MSE, and correlation on held-out data."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from utils.training.networks import TrainingNetworks
from utils.training.step import Losses, TrainingStep, in_eval_mode, unwrap_ddp

_MOMENTS = ("pred", "target", "pred_squared", "target_squared", "product")


class LipStep(TrainingStep):
    """Mean squared error of the predicted lips.

    Args:
        networks: holds the network `name`.
        name: of the network in checkpoints.
        input_key: name of the network's input in the batch, "audio" or "mouths".
        measures: by name, a function from lips [B, values] to a number of interest [B], such as the opening.
        degrade: augmentation of the input, in training only.
    """

    def __init__(
        self,
        networks: TrainingNetworks,
        name: str,
        input_key: str,
        measures: dict[str, Callable[[torch.Tensor], torch.Tensor]],
        degrade: Callable[[torch.Tensor], torch.Tensor] = lambda inputs: inputs,
    ):
        self.network = networks.ddp[name]
        self.optimizer_step = networks.optimizer_steps[name]
        self.autocast = networks.autocast
        self.input_key = input_key
        self.measures = measures
        self.degrade = degrade

    def __call__(self, lips: torch.Tensor, **inputs: torch.Tensor) -> Losses:
        """Train on a batch: target lips [B, values] and the network's input; returns lips, the loss."""
        with self.autocast():
            loss = F.mse_loss(self.network(self.degrade(inputs[self.input_key])).float(), lips)
        self.optimizer_step(loss)
        return {"lips": loss.detach()}

    @torch.no_grad()
    def evaluate(self, lips: torch.Tensor, **inputs: torch.Tensor) -> Losses:
        """Evaluate on a batch.

        Returns:
            lips: the loss; lips_of_rest: that of predicting zeros; for each measure the means that `summarise` needs.
        """
        network = unwrap_ddp(self.network)
        with in_eval_mode(network), self.autocast():
            pred = network(inputs[self.input_key]).float()
        means = {"lips": F.mse_loss(pred, lips), "lips_of_rest": lips.square().mean()}
        for name, measure in self.measures.items():
            x, y = measure(pred), measure(lips)
            moments = (x, y, x.square(), y.square(), x * y)
            means |= {f"{name}_{key}": moment.mean() for key, moment in zip(_MOMENTS, moments, strict=True)}
        return means

    def summarise(self, means: dict[str, float]) -> dict[str, float]:
        """NAME_correlation of each measure with the target over all held-out samples; 0 where either is constant."""
        means = dict(means)
        for name in self.measures:
            x, y, x_squared, y_squared, product = (means.pop(f"{name}_{key}") for key in _MOMENTS)
            variances = max(x_squared - x**2, 0) * max(y_squared - y**2, 0)
            means[f"{name}_correlation"] = (product - x * y) / variances**0.5 if variances else 0.0
        return means
