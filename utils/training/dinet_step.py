"""Training steps of the stages: which losses of which networks, in which order. Optimizers are given from outside."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn

from models.losses import (
    CLIP_FRAMES,
    discriminator_loss,
    frame_major,
    generator_gan_loss,
    perceptual_loss,
    stack_frames_on_channels,
    sync_loss,
)
from models.syncnet import SyncNet
from utils.face.landmarks import opening_and_width

OptimizerStep = Callable[[torch.Tensor], None]
"""Takes a network's optimizer step from its loss."""
Losses = dict[str, torch.Tensor]

LIP_PLACE = ((0.5, 0.17), (0.5, 0.27))
"""Where lips lie in the mouth region: centre and reach downwards, then across, as shares of its side. Of the lips'
landmarks of 18 people, 96 % lie in 0.32 to 0.67 downwards and 0.16 to 0.82 across; of an average face, 0.39 to 0.59
and 0.27 to 0.74."""
CONTRAST = 10.0
"""What SyncNet's scores, 1 apart where it is sure, are multiplied by to be logits."""


class TrainingNetworks(Protocol):
    """What a step needs of the networks it trains; see utils.training.networks."""

    shared: Mapping[str, nn.Module]
    """Networks by name, possibly wrapped for distributed training."""
    updates: Mapping[str, OptimizerStep]
    autocast: Callable[[], AbstractContextManager]
    """Makes the context of a forward pass, for mixed precision."""

    def evaluated(self, name: str) -> nn.Module:
        """The network to judge; may be an average of its weights."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of the generator's losses; the names are those of the options."""

    lamb_perception: float = 10.0
    lamb_gan: float = 1.0
    lamb_l1: float = 0.0
    lamb_mouth: float = 0.0
    lamb_lips: float = 0.0
    lamb_syncnet_perception: float = 0.1
    lip_focus: float = 1.0
    """Weight of an error on the lips in the loss `mouth`, that of an error on the skin far from them being 1."""
    perception_region: str = "picture"
    """What the perception loss compares: the whole "picture", or the "mouth" region."""


@dataclass(frozen=True)
class LipSupervision:
    """What the generator's lips are compared with beyond the true ones; the names are those of the options."""

    lip_gain: float = 1.0
    """How many times as far as the speech tells of them they move from rest. What can be told from speech is less than
    what lips do, so that the mean error is least where they move less."""
    swap_speech: float = 0.0
    """Share of a batch that hears another sample's speech: no picture is known that belongs to it, but how the lips
    differ from the true ones is, and the look of a face cannot foretell it."""


class TrainingStep:
    """What the steps of all stages do unless they say otherwise."""

    def summarise(self, means: dict[str, float]) -> dict[str, float]:
        """The figures to report from what `evaluate` gave, averaged over all held-out samples: the same."""
        return means

    def pictures(self, **batch: torch.Tensor) -> torch.Tensor | None:
        """Rows of pictures to look at, [N, K, 3, H, W] in [0, 1]: none."""
        return None


class FrameStep(TrainingStep):
    """Frame stage: perception loss and the frame discriminator net_dI.

    Args:
        networks: net_g and net_dI.
        perceptual: a `PerceptualNetwork`, or None where the perception loss has no weight.
        mouth: (rows, columns) of the mouth region in the pictures.
        weights: see LossWeights.
        reader: a trained `LipShapeRegressor`, or None where the lips' loss is not wanted.
        teacher: a trained `AudioToLipShape`; only where `teaching` asks for more than the true lips.
        teaching: see LipSupervision.
    """

    def __init__(
        self,
        networks: TrainingNetworks,
        perceptual: nn.Module | None,
        mouth: tuple[slice, slice],
        weights: LossWeights,
        reader: nn.Module | None = None,
        teacher: nn.Module | None = None,
        teaching: LipSupervision = LipSupervision(),
    ):
        self.networks = networks.ddp
        self.optimizer_steps = networks.optimizer_steps
        self.autocast = networks.autocast
        self.judged = networks.eval_module("net_g")
        self.perceptual = perceptual
        self.mouth = (..., *mouth)
        self.weights = weights
        self.reader = None if reader is None else reader.eval().requires_grad_(False)
        self.teacher = None if teacher is None else teacher.eval().requires_grad_(False)
        self.teaching = teaching

    def __call__(
        self,
        source: torch.Tensor,
        reference: torch.Tensor,
        audio: torch.Tensor,
        teacher_audio: torch.Tensor | None = None,
    ) -> Losses:
        """Train on a batch.

        Args:
            source: target pictures, RGB in [0, 1], [B, 3, H, W]; the generator sees them masked. Or [B, K, 3, H, W]
                where K pictures share each set of references.
            reference: five reference pictures on channels, [B, 15, H, W].
            audio: speech features round each frame, [B, channels, T] or [B, K, channels, T].
            teacher_audio: the same of the kind that the teacher hears; None: the teacher hears `audio`.

        Returns:
            dI, perception, g_dI, l1, mouth and lips, each where its weight is above 0: scalars without gradient,
            weighted.
        """
        source, audio = _flat(source, 4), _flat(audio, 3)
        taught = audio if teacher_audio is None else _flat(teacher_audio, 3)
        heard = self._heard(len(source))
        told = self._told(taught, taught[heard])
        with self.autocast():
            fake = self.networks["net_g"](self._masked(source), reference, audio[heard])
        rivals = {"dI": (fake, source)}
        losses = self._train_discriminators(rivals)
        with self.autocast():
            parts = self._picture_losses(fake, source, _own(heard)) | self._lip_losses(fake, source, told)
            parts |= self._gan_losses(rivals)
        return losses | self._train_generator(parts)

    @torch.no_grad()
    def evaluate(self, source: torch.Tensor, reference: torch.Tensor, audio: torch.Tensor) -> Losses:
        """Judge the generator in eval mode on a batch, see `__call__`.

        Returns:
            perception: loss, if it has a weight; mouth_l1: mean L1 distance in the mouth region, pictures in [0, 1];
            mouth_l1_of_mean_reference: the same for pasting the mean of the references, which it has to beat; with a
            reader, lips, the loss, and lips_of_mean_reference.
        """
        source, audio = _flat(source, 4), _flat(audio, 3)
        fake = self._generate(source, reference, audio)
        return self._judge(fake, source, reference.repeat_interleave(len(source) // len(reference), 0))

    @torch.no_grad()
    def pictures(self, source: torch.Tensor, reference: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        """Source, masked source, references and output of each sample (of its first frame), [B, 8, 3, H, W]."""
        if source.dim() == 5:
            source, audio = source[:, 0], audio[:, 0]
        fake = self._generate(source, reference, audio)
        columns = [source, self._masked(source), *reference.split(3, 1), fake]
        return torch.stack(columns, 1)

    def _train_discriminators(self, rivals: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> Losses:
        """Train each discriminator, named without `net_`, on its (fake, real) pictures."""
        losses = {}
        for name, (fake, real) in rivals.items() if self.weights.lamb_gan else ():
            with self.autocast():
                loss = discriminator_loss(self.networks[f"net_{name}"], fake, real)
            self.optimizer_steps[f"net_{name}"](loss)
            losses[name] = loss.detach()
        return losses

    def _gan_losses(self, rivals: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> Losses:
        losses = {}
        for name, (fake, _) in rivals.items() if self.weights.lamb_gan else ():
            with _frozen_parameters(unwrap_ddp(self.networks[f"net_{name}"])) as discriminator:
                losses[f"g_{name}"] = self.weights.lamb_gan * generator_gan_loss(discriminator, fake)
        return losses

    def _heard(self, count: int) -> torch.Tensor:
        """Whose speech each sample of a batch hears, [count]: its own, or another's."""
        heard = torch.arange(count)
        others = torch.randperm(count)[: int(self.teaching.swap_speech * count)] if self.teaching.swap_speech else ()
        if count > 1 and len(others):
            heard[others] = (others + 1 + torch.randint(count - 1, (len(others),))) % count
        return heard

    @torch.no_grad()
    def _told(self, own: torch.Tensor, heard: torch.Tensor) -> torch.Tensor | None:
        """By how much lips that follow the speech `heard` differ from the true ones: opening and width [B, 2].

        None where the true ones are the aim.
        """
        if self.teacher is None:
            return None
        with self.autocast():
            moved = self.teaching.lip_gain * self.teacher(heard).float() - self.teacher(own).float()
            return torch.stack(opening_and_width(moved), -1)

    def _picture_losses(self, fake: torch.Tensor, real: torch.Tensor, own: torch.Tensor | slice) -> Losses:
        """Losses of the pictures `own`, which hear the speech that belongs to them."""
        fake, real = fake[own], real[own]
        losses = self._perception_losses(fake, real)
        if self.weights.lamb_l1:
            losses["l1"] = self.weights.lamb_l1 * F.l1_loss(fake, real)
        if self.weights.lamb_mouth:
            error = (self._mouths(fake) - self._mouths(real)).abs()
            if self.weights.lip_focus != 1:
                error = error * lip_weights(error.shape[-1], self.weights.lip_focus).to(error.device)
            losses["mouth"] = self.weights.lamb_mouth * error.mean()
        return losses

    def _lip_losses(self, fake: torch.Tensor, real: torch.Tensor, told: torch.Tensor | None = None) -> Losses:
        if self.reader is None or not self.weights.lamb_lips:
            return {}
        with torch.no_grad():
            aim = self.reader(self._mouths(real)).float()
        if told is not None:
            aim = aim + told
        return {"lips": self.weights.lamb_lips * F.mse_loss(self.reader(self._mouths(fake)).float(), aim)}

    def _perception_losses(self, fake: torch.Tensor, real: torch.Tensor) -> Losses:
        if self.perceptual is None:
            return {}
        if self.weights.perception_region == "mouth":
            fake, real = self._mouths(fake), self._mouths(real)
        return {"perception": perceptual_loss(self.perceptual, fake, real, self.weights.lamb_perception)}

    def _train_generator(self, losses: Losses) -> Losses:
        self.optimizer_steps["net_g"](torch.stack([loss.float() for loss in losses.values()]).sum())
        return {name: loss.detach() for name, loss in losses.items()}

    def _generate(self, source: torch.Tensor, reference: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        with in_eval_mode(self.judged), self.autocast():
            return self.judged(self._masked(source), reference, audio).float()

    def _judge(self, fake: torch.Tensor, real: torch.Tensor, reference: torch.Tensor) -> Losses:
        mean_reference = torch.stack(reference.split(3, 1)).mean(0)
        with self.autocast():
            others = self._perception_losses(fake, real) | self._lip_losses(fake, real)
            of_mean = self._lip_losses(mean_reference, real)
        others |= {f"{name}_of_mean_reference": loss for name, loss in of_mean.items()}
        return others | {
            "mouth_l1": F.l1_loss(self._mouths(fake), self._mouths(real)),
            "mouth_l1_of_mean_reference": F.l1_loss(self._mouths(mean_reference), self._mouths(real)),
        }

    def _masked(self, pictures: torch.Tensor) -> torch.Tensor:
        masked = pictures.clone()
        masked[self.mouth] = 0
        return masked

    def _mouths(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures[self.mouth]


class ClipStep(FrameStep):
    """Clip stage: in addition the clip discriminator net_dV, which sees five frames at once, and a frozen SyncNet.

    Args:
        networks: net_g, net_dI and net_dV.
        perceptual: see FrameStep.
        mouth: see FrameStep.
        weights: see LossWeights.
        syncnet: trained SyncNet, or None where the sync loss has no weight.
        reader, teacher, teaching: see FrameStep; speech is swapped by whole clips.
    """

    def __init__(
        self,
        networks: TrainingNetworks,
        perceptual: nn.Module | None,
        mouth: tuple[slice, slice],
        weights: LossWeights,
        syncnet: SyncNet | None,
        reader: nn.Module | None = None,
        teacher: nn.Module | None = None,
        teaching: LipSupervision = LipSupervision(),
    ):
        super().__init__(networks, perceptual, mouth, weights, reader, teacher, teaching)
        self.syncnet = None if syncnet is None else syncnet.eval().requires_grad_(False)

    def __call__(
        self, source: torch.Tensor, reference: torch.Tensor, audio: torch.Tensor, clip_audio: torch.Tensor
    ) -> Losses:
        """Train on a batch.

        Args:
            source: target pictures of five successive frames, RGB in [0, 1], [B, 5, 3, H, W].
            reference: five reference pictures of each, [B, 5, 15, H, W].
            audio: speech features round each frame, [B, 5, channels, T].
            clip_audio: speech features of nine frames, two more on each side, [B, channels, T'].

        Returns:
            dI, dV, perception, g_dI, g_dV, l1, mouth, lips and sync, each where its weight is above 0.
        """
        clips = self._heard(len(source))
        speech, clip_audio = frame_major(audio[clips]), clip_audio[clips]
        source, reference, audio = (frame_major(part) for part in (source, reference, audio))
        told = self._told(audio, speech)
        with self.autocast():
            fake = self.networks["net_g"](self._masked(source), reference, speech)
        rivals = {"dI": (fake, source), "dV": (stack_frames_on_channels(fake), stack_frames_on_channels(source))}
        losses = self._train_discriminators(rivals)
        with self.autocast():
            parts = self._picture_losses(fake, source, _own(clips, CLIP_FRAMES)) | self._lip_losses(fake, source, told)
            parts |= self._gan_losses(rivals) | self._sync_losses(fake, clip_audio)
        return losses | self._train_generator(parts)

    @torch.no_grad()
    def evaluate(
        self, source: torch.Tensor, reference: torch.Tensor, audio: torch.Tensor, clip_audio: torch.Tensor
    ) -> Losses:
        """As FrameStep's, and: sync, the sync loss; sync_of_source, what the true pictures have."""
        source, reference, audio = (frame_major(part) for part in (source, reference, audio))
        fake = self._generate(source, reference, audio)
        with self.autocast():
            true = {f"{name}_of_source": loss for name, loss in self._sync_losses(source, clip_audio).items()}
            return self._judge(fake, source, reference) | self._sync_losses(fake, clip_audio) | true

    @torch.no_grad()
    def pictures(
        self, source: torch.Tensor, reference: torch.Tensor, audio: torch.Tensor, clip_audio: torch.Tensor
    ) -> torch.Tensor:
        """As FrameStep's, a row a frame: [5 B, 8, 3, H, W]."""
        del clip_audio
        return super().pictures(*(part.flatten(0, 1) for part in (source, reference, audio)))

    def _sync_losses(self, pictures: torch.Tensor, clip_audio: torch.Tensor) -> Losses:
        if self.syncnet is None:
            return {}
        mouths = stack_frames_on_channels(self._mouths(pictures), CLIP_FRAMES)
        return {"sync": sync_loss(self.syncnet, mouths, clip_audio, self.weights.lamb_syncnet_perception)}


class SyncPairs(SyncNet):
    """A SyncNet in training: judges the same mouths with their own and with other speech, and encodes them once."""

    def forward(
        self, mouths: torch.Tensor, audio: torch.Tensor, negative_audio: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Judge mouths with speech; arguments as in SyncStep.

        Returns:
            scores of the pairs in sync [B, h, w] and of the others [B, N, h, w]; the codes of the mouths [B, channels]
            and of the speech [B, 1 + N, channels], the mouths' own first, as they are before their ReLU.
        """
        *layers, last = self.face_encoder.face_conv
        seen = last.conv(nn.Sequential(*layers)(mouths))
        face = last.activate(seen.clone())
        *layers, last = self.audio_encoder.audio_conv
        stretches = torch.cat([audio[:, None], negative_audio], 1)
        heard = last.conv(nn.Sequential(*layers)(stretches.flatten(0, 1)))
        codes = last.activate(heard.clone()).mean(2)
        each = stretches.shape[1]
        scores = self.score(face.repeat_interleave(each, 0), codes).squeeze(1).unflatten(0, (-1, each))
        return scores[:, 0], scores[:, 1:], seen.mean((2, 3)), heard.mean(2).unflatten(0, (-1, each))


class SyncStep(TrainingStep):
    """SyncNet: scores to 1 for pairs in sync and to 0 for others, least squares; a score of chance loses 0.25.

    The score is not clamped: outside 0 .. 1 a clamped one has no gradient, and cannot come back. Besides, the pair in
    sync is to be told from the others of the same mouths (cross entropy of the scores times CONTRAST), which teaches
    what differs between them, not what mouths and voices are like.

    With little data the score stays at chance for long: nothing tells the encoders what to look and listen for. Where
    `lips` are given, two channels of either code are therefore trained to tell each of their numbers, one with its
    sign turned, for the ReLU behind them.

    Args:
        networks: net, a SyncPairs.
        lamb_lips: weight of the lips' loss.
        lamb_contrast: weight of the cross entropy.
    """

    def __init__(self, networks: TrainingNetworks, lamb_lips: float = 0.0, lamb_contrast: float = 0.0):
        self.lamb_lips = lamb_lips
        self.lamb_contrast = lamb_contrast
        self.pairs = networks.ddp["net"]
        self.update = networks.optimizer_steps["net"]
        self.autocast = networks.autocast

    def __call__(
        self,
        mouths: torch.Tensor,
        audio: torch.Tensor,
        negative_audio: torch.Tensor,
        lips: torch.Tensor | None = None,
        heard_lips: torch.Tensor | None = None,
    ) -> Losses:
        """Train on a batch.

        Args:
            mouths: mouth regions of five frames on channels, RGB in [0, 1], [B, 15, m, m].
            audio: the nine slots of speech that belong to them, [B, channels, T].
            negative_audio: stretches of nine slots that do not, [B, N, channels, T].
            lips: how the lips move in these frames, [B, values], NaN where unknown.
            heard_lips: how they move where the speech belongs to, its own first, [B, 1 + N, values].

        Returns:
            sync, the least squares, and accuracy, the share of pairs on the right side of 0.5; chance is 0.25 and 0.5.
            With a weight, contrast, the cross entropy (chance: log(1 + N)). With lips, lips_seen and lips_heard: the
            mean squared errors.
        """
        with self.autocast():
            positive, negative, seen, heard = self.pairs(mouths, audio, negative_audio)
            sync = self._loss(positive, negative)
        terms = {"sync": (1.0, sync)}
        if self.lamb_contrast:
            terms["contrast"] = (self.lamb_contrast, self._contrast(positive, negative))
        for name, loss in self._lip_losses(seen, heard, lips, heard_lips).items():
            terms[name] = (self.lamb_lips, loss)
        self.update(sum(weight * loss for weight, loss in terms.values()))
        return {name: loss.detach() for name, (_, loss) in terms.items()} | {
            "accuracy": self._accuracy(positive, negative)
        }

    @torch.no_grad()
    def evaluate(
        self,
        mouths: torch.Tensor,
        audio: torch.Tensor,
        negative_audio: torch.Tensor,
        lips: torch.Tensor | None = None,
        heard_lips: torch.Tensor | None = None,
    ) -> Losses:
        """Judge a batch, see `__call__`.

        Returns:
            sync, accuracy and the errors of the lips as there; pair_accuracy, how often the pair in sync scores higher
            than another one of the same mouths (chance 0.5); positive_score and negative_score, the means.
        """
        with self.autocast():
            positive, negative, seen, heard = unwrap_ddp(self.pairs)(mouths, audio, negative_audio)
        own, others = _means(positive), _means(negative)
        return {
            "sync": self._loss(positive.float(), negative.float()),
            "accuracy": self._accuracy(positive, negative),
            "pair_accuracy": (own[:, None] > others).float().mean(),
            "positive_score": own.mean(),
            "negative_score": others.mean(),
        } | self._lip_losses(seen, heard, lips, heard_lips)

    @staticmethod
    def _lip_losses(
        seen: torch.Tensor, heard: torch.Tensor, lips: torch.Tensor | None, heard_lips: torch.Tensor | None
    ) -> Losses:
        losses = {}
        for name, code, true in (("lips_seen", seen, lips), ("lips_heard", heard, heard_lips)):
            if true is None:
                continue
            known, count = true.isfinite(), true.shape[-1]
            # What is above rest in one channel, what is below in another, as both have yet to pass a ReLU.
            signs = true.new_tensor([1.0, -1.0]).repeat_interleave(count)
            told = (code[..., : 2 * count].float() * signs).chunk(2, -1)
            errors = sum((half - true.nan_to_num()).square() for half in told) / 2
            losses[name] = (errors * known).sum() / known.sum().clamp(min=1)
        return losses

    @staticmethod
    def _contrast(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
        scores = torch.cat([positive[:, None], negative], 1).mean((2, 3))
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        return F.cross_entropy(CONTRAST * scores, scores.new_zeros(len(scores), dtype=torch.long))

    @staticmethod
    def _loss(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
        ones, zeros = torch.ones_like(positive), torch.zeros_like(negative)
        return (F.mse_loss(positive, ones) + F.mse_loss(negative, zeros)) / 2

    @staticmethod
    def _accuracy(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
        # The pairs in sync count as much as all others together, as in the loss.
        right = (_means(positive) > 0.5).float().mean() + (_means(negative) <= 0.5).float().mean()
        return right / 2


def _means(scores: torch.Tensor) -> torch.Tensor:
    """One score a pair from score maps [..., h, w]."""
    return scores.detach().float().mean((-2, -1))


@lru_cache(maxsize=8)
def lip_weights(mouth_region_size: int, focus: float) -> torch.Tensor:
    """Weights [m, m] of errors in a mouth region: `focus` times as large on the lips as far from them, 1 on average."""
    place = (torch.arange(mouth_region_size) + 0.5) / mouth_region_size
    down, across = (((place - centre) / reach) ** 4 for centre, reach in LIP_PLACE)
    weights = 1 + (focus - 1) * torch.exp(-0.5 * (down[:, None] + across[None]))
    return weights / weights.mean()


def _flat(batch: torch.Tensor, dimensions: int) -> torch.Tensor:
    """[B, K, ...] to [B * K, ...]; what has only `dimensions` dimensions has one frame per sample, and stays."""
    return batch if batch.dim() == dimensions else batch.flatten(0, 1)


def _own(heard: torch.Tensor, frames: int = 1) -> torch.Tensor | slice:
    """Which pictures hear their own speech: `frames` of each sample, ordered as `frame_major` does."""
    own = heard == torch.arange(len(heard))
    return slice(None) if own.all() else own.repeat(frames)


def unwrap_ddp(network: nn.Module) -> nn.Module:
    """The network inside DistributedDataParallel, whose bookkeeping is for a network's own training step alone."""
    return network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network


@contextlib.contextmanager
def _frozen_parameters(network: nn.Module) -> Iterator[nn.Module]:
    """A forward pass that leaves out the gradients of the network's parameters, which nobody would use."""
    network.requires_grad_(False)
    try:
        yield network
    finally:
        network.requires_grad_(True)


@contextlib.contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """Have a network in eval mode for a while."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
