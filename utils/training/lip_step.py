"""The training step of networks that tell how the lips are: from the speech, or from a picture."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from utils.training.dinet_step import Losses, TrainingNetworks, TrainingStep, in_eval_mode, unwrap_ddp

_MOMENTS = ("told", "true", "told_squared", "true_squared", "product")


class LipStep(TrainingStep):
    """Mean squared error of what is told of the lips.

    Args:
        networks: holds the network `name`.
        name: in checkpoints.
        given: name of what the network is told from, in batches.
        measures: by name, how to take numbers [B] of interest, such as the opening, from lips [B, values].
        disturb: changes what is given, in training alone.
    """

    def __init__(
        self,
        networks: TrainingNetworks,
        name: str,
        given: str,
        measures: dict[str, Callable[[torch.Tensor], torch.Tensor]],
        disturb: Callable[[torch.Tensor], torch.Tensor] = lambda given: given,
    ):
        self.reader = networks.ddp[name]
        self.update = networks.optimizer_steps[name]
        self.autocast = networks.autocast
        self.given = given
        self.measures = measures
        self.disturb = disturb

    def __call__(self, lips: torch.Tensor, **given: torch.Tensor) -> Losses:
        """Train on a batch: lips [B, values] and what they are told from; gives lips, the loss."""
        with self.autocast():
            loss = F.mse_loss(self.reader(self.disturb(given[self.given])).float(), lips)
        self.update(loss)
        return {"lips": loss.detach()}

    @torch.no_grad()
    def evaluate(self, lips: torch.Tensor, **given: torch.Tensor) -> Losses:
        """Judge a batch.

        Returns:
            lips: the loss; lips_of_rest: that of telling zeros; for each measure the means that `summarise` needs.
        """
        reader = unwrap_ddp(self.reader)
        with in_eval_mode(reader), self.autocast():
            told = reader(given[self.given]).float()
        means = {"lips": F.mse_loss(told, lips), "lips_of_rest": lips.square().mean()}
        for name, measure in self.measures.items():
            said, true = measure(told), measure(lips)
            parts = (said, true, said.square(), true.square(), said * true)
            means |= {f"{name}_{key}": part.mean() for key, part in zip(_MOMENTS, parts, strict=True)}
        return means

    def summarise(self, means: dict[str, float]) -> dict[str, float]:
        """NAME_correlation of each measure with the truth over all held-out samples; 0 where either never changes."""
        means = dict(means)
        for name in self.measures:
            said, true, said_squared, true_squared, product = (means.pop(f"{name}_{key}") for key in _MOMENTS)
            spread = max(said_squared - said**2, 0) * max(true_squared - true**2, 0)
            means[f"{name}_correlation"] = (product - said * true) / spread**0.5 if spread else 0.0
        return means
