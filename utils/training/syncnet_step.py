"""Training step of SyncNet: the sync loss, the InfoNCE loss and, on small data, the lip motion loss."""

import torch
import torch.nn.functional as F

from utils.training.networks import TrainingNetworks
from utils.training.step import Losses, TrainingStep, unwrap_ddp

INFO_NCE_TEMPERATURE = 0.1
"""SyncNet's scores, which differ by 1 between a pair in sync and another, are divided by this to become logits."""


class SyncStep(TrainingStep):
    """SyncNet: scores of pairs in sync are trained to 1 and those of others to 0, by least squares (chance: 0.25).

    The scores are not clamped: outside 0 .. 1 a clamped score has no gradient. With `lamb_contrast` the pair in sync is
    also classified among all pairs of the same mouths by cross entropy (InfoNCE, van den Oord et al. 2018), which
    depends on what differs between them and not on the person.

    On small data the score stays at chance for long, because no gradient tells the encoders what to look for. Where
    `lips` are given, two channels of either embedding are therefore trained to predict each of their numbers, one with
    its sign turned, since the embeddings pass a ReLU afterwards.

    Args:
        networks: net, a SyncNet.
        lamb_lips: weight of the lip motion loss.
        lamb_contrast: weight of the InfoNCE loss.
    """

    def __init__(self, networks: TrainingNetworks, lamb_lips: float = 0.0, lamb_contrast: float = 0.0):
        self.lamb_lips = lamb_lips
        self.lamb_contrast = lamb_contrast
        self.syncnet = networks.ddp["net"]
        self.optimizer_step = networks.optimizer_steps["net"]
        self.autocast = networks.autocast

    def __call__(
        self,
        mouths: torch.Tensor,
        audio: torch.Tensor,
        negative_audio: torch.Tensor,
        lips: torch.Tensor | None = None,
        audio_lips: torch.Tensor | None = None,
    ) -> Losses:
        """Train on a batch.

        Args:
            mouths: mouth regions of five frames on channels, RGB in [0, 1], [B, 15, m, m].
            audio: speech features of the nine frames in sync with them, [B, channels, T].
            negative_audio: speech features of nine frames that are not, [B, N, channels, T].
            lips: lip motion in the mouths' frames, [B, values], NaN where unknown.
            audio_lips: lip motion in the frames that each audio window belongs to, that in sync first,
                [B, 1 + N, values], NaN where unknown.

        Returns:
            sync, the least squares, and accuracy, the fraction of pairs on the right side of 0.5; chance is 0.25 and
            0.5. With a weight, contrast, the InfoNCE loss (chance: log(1 + N)). With lips, lips_seen and lips_heard:
            the mean squared errors of the predictions from mouths and audio.
        """
        with self.autocast():
            positive, negative, mouth_embeddings, audio_embeddings = self.syncnet(mouths, audio, negative_audio)
            sync = self._sync_loss(positive, negative)
        terms = {"sync": (1.0, sync)}
        if self.lamb_contrast:
            terms["contrast"] = (self.lamb_contrast, self._info_nce(positive, negative))
        for name, loss in self._lip_losses(mouth_embeddings, audio_embeddings, lips, audio_lips).items():
            terms[name] = (self.lamb_lips, loss)
        self.optimizer_step(sum(weight * loss for weight, loss in terms.values()))
        losses = {name: loss.detach() for name, (_, loss) in terms.items()}
        return losses | {"accuracy": self._accuracy(positive, negative)}

    @torch.no_grad()
    def evaluate(
        self,
        mouths: torch.Tensor,
        audio: torch.Tensor,
        negative_audio: torch.Tensor,
        lips: torch.Tensor | None = None,
        audio_lips: torch.Tensor | None = None,
    ) -> Losses:
        """Evaluate on a batch, see `__call__`.

        Returns:
            sync, accuracy and the errors of the lips as there; pair_accuracy, how often the pair in sync scores higher
            than another one of the same mouths (chance 0.5); positive_score and negative_score, the means.
        """
        with self.autocast():
            positive, negative, mouth_embeddings, audio_embeddings = unwrap_ddp(self.syncnet)(
                mouths, audio, negative_audio
            )
        positive_means, negative_means = _means(positive), _means(negative)
        return {
            "sync": self._sync_loss(positive.float(), negative.float()),
            "accuracy": self._accuracy(positive, negative),
            "pair_accuracy": (positive_means[:, None] > negative_means).float().mean(),
            "positive_score": positive_means.mean(),
            "negative_score": negative_means.mean(),
        } | self._lip_losses(mouth_embeddings, audio_embeddings, lips, audio_lips)

    @staticmethod
    def _sync_loss(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
        ones, zeros = torch.ones_like(positive), torch.zeros_like(negative)
        return (F.mse_loss(positive, ones) + F.mse_loss(negative, zeros)) / 2

    @staticmethod
    def _info_nce(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
        scores = torch.cat([positive[:, None], negative], 1).mean((2, 3))
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        return F.cross_entropy(scores / INFO_NCE_TEMPERATURE, scores.new_zeros(len(scores), dtype=torch.long))

    @staticmethod
    def _lip_losses(
        mouth_embeddings: torch.Tensor,
        audio_embeddings: torch.Tensor,
        lips: torch.Tensor | None,
        audio_lips: torch.Tensor | None,
    ) -> Losses:
        losses = {}
        for name, embeddings, target in (
            ("lips_seen", mouth_embeddings, lips),
            ("lips_heard", audio_embeddings, audio_lips),
        ):
            if target is None:
                continue
            known, count = target.isfinite(), target.shape[-1]
            # Positive values are predicted by one channel, negative ones by another, as both have yet to pass a ReLU.
            signs = target.new_tensor([1.0, -1.0]).repeat_interleave(count)
            predictions = (embeddings[..., : 2 * count].float() * signs).chunk(2, -1)
            errors = sum((pred - target.nan_to_num()).square() for pred in predictions) / 2
            losses[name] = (errors * known).sum() / known.sum().clamp(min=1)
        return losses

    @staticmethod
    def _accuracy(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
        # The pairs in sync count as much as all others together, as in the loss.
        right = (_means(positive) > 0.5).float().mean() + (_means(negative) <= 0.5).float().mean()
        return right / 2


def _means(scores: torch.Tensor) -> torch.Tensor:
    """One score per pair, [...], from score maps [..., h, w]."""
    return scores.detach().float().mean((-2, -1))
