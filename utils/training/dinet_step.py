"""Training steps of DINet: the losses of the frame stage and of the clip stage, in the order of the published loop."""

from functools import lru_cache

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
from utils.training.lip_supervision import LipSupervision
from utils.training.networks import TrainingNetworks
from utils.training.settings import LossWeights
from utils.training.step import Losses, TrainingStep, frozen_parameters, in_eval_mode, unwrap_ddp

LIP_REGION = ((0.5, 0.17), (0.5, 0.27))
"""Where lips lie in the mouth region: centre and extent vertically, then horizontally, as fractions of its side. Of the
lip landmarks of 18 people, 96 % lie in 0.32 to 0.67 vertically and 0.16 to 0.82 horizontally; of an average face, in
0.39 to 0.59 and 0.27 to 0.74."""

STILL_TOP = (0.26, 0.34)
"""Speech moves next to nothing above the first of these rows of the mouth region (nose, cheeks), and lips lie below the
second, as fractions of its side."""

FakeReal = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""Generated and true images by the name of the discriminator that compares them, without `net_`."""


class FrameStep(TrainingStep):
    """Frame stage: perceptual loss and the frame discriminator net_dI.

    Args:
        networks: net_g and net_dI.
        mouth: (rows, columns) of the mouth region in the images.
        weights: see LossWeights.
        perceptual: a `PerceptualNetwork`, or None where the perceptual loss has no weight.
        lips: supervision of the lips for small data, or None.
    """

    def __init__(
        self,
        networks: TrainingNetworks,
        mouth: tuple[slice, slice],
        weights: LossWeights,
        perceptual: nn.Module | None,
        lips: LipSupervision | None = None,
    ):
        self.networks = networks.ddp
        self.optimizer_steps = networks.optimizer_steps
        self.autocast = networks.autocast
        self.eval_net = networks.eval_module("net_g")
        self.mouth = (..., *mouth)
        self.weights = weights
        self.perceptual = None if perceptual is None else networks.to_device(perceptual)
        self.lips = lips
        if lips is not None:
            lips.to_device(networks)

    def __call__(
        self,
        source: torch.Tensor,
        reference: torch.Tensor,
        audio: torch.Tensor,
        audio2lip_audio: torch.Tensor | None = None,
    ) -> Losses:
        """Train on a batch.

        Args:
            source: target images, RGB in [0, 1], [B, 3, H, W]; the generator sees them masked. Or [B, K, 3, H, W],
                where K images share each set of references.
            reference: five reference images on channels, [B, 15, H, W].
            audio: speech features round each frame, [B, channels, T] or [B, K, channels, T].
            audio2lip_audio: the same in the features of the lip supervision's audio network; None: `audio`.

        Returns:
            dI, perception, g_dI, l1, mouth and lips, each where its weight is above 0: scalars without gradient,
            weighted.
        """
        source, audio = _flatten_frames(source, 4), _flatten_frames(audio, 3)
        audio2lip_audio = audio if audio2lip_audio is None else _flatten_frames(audio2lip_audio, 3)
        audio_index = self._draw_audio_index(len(source))
        driving_audio, lip_offset = audio, None
        if audio_index is not None:
            driving_audio = audio[audio_index]
            lip_offset = self._lip_offset(audio2lip_audio, audio2lip_audio[audio_index])
        with self.autocast():
            fake = self.networks["net_g"](self._masked(source), reference, driving_audio)
        fake_real = {"dI": (fake, source)}
        losses = self._train_discriminators(fake_real)
        # The generator's GAN loss uses the discriminators after their step, as published.
        with self.autocast():
            terms = self._image_losses(fake, source, _unpaired_images(audio_index, len(fake)))
            terms |= self._lip_loss(fake, source, lip_offset) | self._gan_losses(fake_real)
        return losses | self._train_generator(terms)

    @torch.no_grad()
    def evaluate(self, source: torch.Tensor, reference: torch.Tensor, audio: torch.Tensor) -> Losses:
        """Evaluate the generator in eval mode on a batch, see `__call__`.

        Returns:
            perception: loss, if it has a weight; mouth_l1: mean L1 distance in the mouth region, images in [0, 1];
            mouth_l1_of_mean_reference: the same for pasting the mean of the references, a trivial baseline; with
            supervised lips, lips, the loss, and lips_of_mean_reference.
        """
        source, audio = _flatten_frames(source, 4), _flatten_frames(audio, 3)
        fake = self._generate(source, reference, audio)
        return self._evaluate(fake, source, reference.repeat_interleave(len(source) // len(reference), 0))

    @torch.no_grad()
    def images(self, source: torch.Tensor, reference: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        """Source, masked source, references and output of each sample (of its first frame), [B, 8, 3, H, W]."""
        if source.dim() == 5:
            source, audio = source[:, 0], audio[:, 0]
        fake = self._generate(source, reference, audio)
        columns = [source, self._masked(source), *reference.split(3, 1), fake]
        return torch.stack(columns, 1)

    def _train_discriminators(self, fake_real: FakeReal) -> Losses:
        losses = {}
        for name, (fake, real) in fake_real.items() if self.weights.lamb_gan else ():
            with self.autocast():
                loss = discriminator_loss(self.networks[f"net_{name}"], fake, real)
            self.optimizer_steps[f"net_{name}"](loss)
            losses[name] = loss.detach()
        return losses

    def _train_generator(self, losses: Losses) -> Losses:
        self.optimizer_steps["net_g"](torch.stack([loss.float() for loss in losses.values()]).sum())
        return {name: loss.detach() for name, loss in losses.items()}

    def _image_losses(self, fake: torch.Tensor, real: torch.Tensor, unpaired: torch.Tensor | None = None) -> Losses:
        """Losses against target images; `unpaired` [B] are those that have none for lips and chin, None: no one.

        The lip loss alone does not hold a face together: on strong vowels nose and beard vanished. Therefore unpaired
        images are compared with the true ones above the lips, and by their texture.
        """
        losses = self._perceptual_loss(fake, real, unpaired)
        if unpaired is not None:
            fake = self._with_true_lips(fake, real, unpaired)
        if self.weights.lamb_l1:
            losses["l1"] = self.weights.lamb_l1 * F.l1_loss(fake, real)
        if self.weights.lamb_mouth:
            error = (self._mouths(fake) - self._mouths(real)).abs()
            if self.weights.lip_focus != 1:
                error = error * lip_weights(error.shape[-1], self.weights.lip_focus).to(error.device)
            losses["mouth"] = self.weights.lamb_mouth * error.mean()
        return losses

    def _perceptual_loss(self, fake: torch.Tensor, real: torch.Tensor, unpaired: torch.Tensor | None = None) -> Losses:
        if self.perceptual is None:
            return {}
        if self.weights.perception_region == "mouth":
            fake, real = self._mouths(fake), self._mouths(real)
        unpaired = None if unpaired is None else unpaired.to(fake.device)
        loss = perceptual_loss(self.perceptual, fake, real, self.weights.lamb_perception, unpaired)
        return {"perception": loss}

    def _gan_losses(self, fake_real: FakeReal) -> Losses:
        losses = {}
        for name, (fake, _) in fake_real.items() if self.weights.lamb_gan else ():
            with frozen_parameters(unwrap_ddp(self.networks[f"net_{name}"])) as discriminator:
                losses[f"g_{name}"] = self.weights.lamb_gan * generator_gan_loss(discriminator, fake)
        return losses

    def _draw_audio_index(self, count: int) -> torch.Tensor | None:
        """Which sample's audio drives each sample, [count]; None: each its own, as published."""
        return None if self.lips is None else self.lips.draw_audio_index(count)

    def _lip_offset(self, own_audio: torch.Tensor, driving_audio: torch.Tensor) -> torch.Tensor | None:
        return None if self.lips is None else self.lips.lip_offset(own_audio, driving_audio, self.autocast)

    def _lip_loss(self, fake: torch.Tensor, real: torch.Tensor, offset: torch.Tensor | None = None) -> Losses:
        return {} if self.lips is None else self.lips.loss(self._mouths(fake), self._mouths(real), offset)

    def _generate(self, source: torch.Tensor, reference: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        with in_eval_mode(self.eval_net), self.autocast():
            return self.eval_net(self._masked(source), reference, audio).float()

    def _evaluate(self, fake: torch.Tensor, real: torch.Tensor, reference: torch.Tensor) -> Losses:
        mean_reference = torch.stack(reference.split(3, 1)).mean(0)
        with self.autocast():
            metrics = self._perceptual_loss(fake, real) | self._lip_loss(fake, real)
            of_mean = self._lip_loss(mean_reference, real)
        metrics |= {f"{name}_of_mean_reference": loss for name, loss in of_mean.items()}
        return metrics | {
            "mouth_l1": F.l1_loss(self._mouths(fake), self._mouths(real)),
            "mouth_l1_of_mean_reference": F.l1_loss(self._mouths(mean_reference), self._mouths(real)),
        }

    def _with_true_lips(self, fake: torch.Tensor, real: torch.Tensor, unpaired: torch.Tensor) -> torch.Tensor:
        """Generated images, with the true lips and chin where `unpaired` [B]."""
        rows = still_rows(self._mouths(fake).shape[-2]).to(fake)
        keep = torch.where(unpaired.to(fake.device)[:, None], rows, 1)[:, None, :, None]
        whole = fake.clone()
        whole[self.mouth] = torch.lerp(self._mouths(real).to(fake), self._mouths(fake), keep)
        return whole

    def _masked(self, images: torch.Tensor) -> torch.Tensor:
        masked = images.clone()
        masked[self.mouth] = 0
        return masked

    def _mouths(self, images: torch.Tensor) -> torch.Tensor:
        return images[self.mouth]


class ClipStep(FrameStep):
    """Clip stage: in addition the clip discriminator net_dV, which sees five frames at once, and a frozen SyncNet.

    Args:
        networks: net_g, net_dI and net_dV.
        mouth: see FrameStep.
        weights: see LossWeights.
        perceptual: see FrameStep.
        syncnet: trained SyncNet, or None where the sync loss has no weight.
        lips: see FrameStep; unpaired audio is that of a whole other clip.
    """

    def __init__(
        self,
        networks: TrainingNetworks,
        mouth: tuple[slice, slice],
        weights: LossWeights,
        perceptual: nn.Module | None,
        syncnet: SyncNet | None,
        lips: LipSupervision | None = None,
    ):
        super().__init__(networks, mouth, weights, perceptual, lips)
        self.syncnet = None if syncnet is None else networks.to_device(syncnet).eval().requires_grad_(False)

    def __call__(
        self, source: torch.Tensor, reference: torch.Tensor, audio: torch.Tensor, clip_audio: torch.Tensor
    ) -> Losses:
        """Train on a batch.

        Args:
            source: target images of five successive frames, RGB in [0, 1], [B, 5, 3, H, W].
            reference: five reference images of each, [B, 5, 15, H, W].
            audio: speech features round each frame, [B, 5, channels, T].
            clip_audio: speech features of nine frames, two more on each side, [B, channels, T'].

        Returns:
            dI, dV, perception, g_dI, g_dV, l1, mouth, lips and sync, each where its weight is above 0.
        """
        audio_index = self._draw_audio_index(len(source))
        own_audio, source, reference = frame_major(audio), frame_major(source), frame_major(reference)
        driving_audio, lip_offset = own_audio, None
        if audio_index is not None:
            driving_audio, clip_audio = frame_major(audio[audio_index]), clip_audio[audio_index]
            lip_offset = self._lip_offset(own_audio, driving_audio)
        with self.autocast():
            fake = self.networks["net_g"](self._masked(source), reference, driving_audio)
        fake_real = {
            "dI": (fake, source),
            "dV": (stack_frames_on_channels(fake), stack_frames_on_channels(source)),
        }
        losses = self._train_discriminators(fake_real)
        with self.autocast():
            terms = self._image_losses(fake, source, _unpaired_images(audio_index, len(fake)))
            terms |= self._lip_loss(fake, source, lip_offset) | self._gan_losses(fake_real)
            terms |= self._sync_loss(fake, clip_audio)
        return losses | self._train_generator(terms)

    @torch.no_grad()
    def evaluate(
        self, source: torch.Tensor, reference: torch.Tensor, audio: torch.Tensor, clip_audio: torch.Tensor
    ) -> Losses:
        """As FrameStep's, and: sync, the sync loss; sync_of_source, the sync loss of the true images."""
        source, reference, audio = map(frame_major, (source, reference, audio))
        fake = self._generate(source, reference, audio)
        with self.autocast():
            of_source = {f"{name}_of_source": loss for name, loss in self._sync_loss(source, clip_audio).items()}
            return self._evaluate(fake, source, reference) | self._sync_loss(fake, clip_audio) | of_source

    @torch.no_grad()
    def images(
        self, source: torch.Tensor, reference: torch.Tensor, audio: torch.Tensor, clip_audio: torch.Tensor
    ) -> torch.Tensor:
        """As FrameStep's, one row per frame: [5 B, 8, 3, H, W]."""
        del clip_audio
        return super().images(*(part.flatten(0, 1) for part in (source, reference, audio)))

    def _sync_loss(self, images: torch.Tensor, clip_audio: torch.Tensor) -> Losses:
        if self.syncnet is None:
            return {}
        mouths = stack_frames_on_channels(self._mouths(images), CLIP_FRAMES)
        return {"sync": sync_loss(self.syncnet, mouths, clip_audio, self.weights.lamb_syncnet_perception)}


@lru_cache(maxsize=8)
def lip_weights(mouth_region_size: int, focus: float) -> torch.Tensor:
    """Weights [m, m] of errors in a mouth region: `focus` times as large on the lips as far from them, mean 1."""
    position = (torch.arange(mouth_region_size) + 0.5) / mouth_region_size
    vertical, horizontal = (((position - centre) / extent) ** 4 for centre, extent in LIP_REGION)
    weights = 1 + (focus - 1) * torch.exp(-0.5 * (vertical[:, None] + horizontal[None]))
    return weights / weights.mean()


@lru_cache(maxsize=8)
def still_rows(mouth_region_size: int) -> torch.Tensor:
    """Weights [m] of a mouth region's rows: 1 on nose and cheeks, which speech hardly moves, 0 from the lips on."""
    position = (torch.arange(mouth_region_size) + 0.5) / mouth_region_size
    top, bottom = STILL_TOP
    return ((bottom - position) / (bottom - top)).clamp(0, 1)


def _flatten_frames(batch: torch.Tensor, dimensions: int) -> torch.Tensor:
    """[B, K, ...] to [B * K, ...]; what has `dimensions` dimensions has one frame per sample and stays as it is."""
    return batch if batch.dim() == dimensions else batch.flatten(0, 1)


def _unpaired_images(audio_index: torch.Tensor | None, count: int) -> torch.Tensor | None:
    """Which of `count` images, in the order of `frame_major`, another sample's audio drives, bool; None: no one."""
    if audio_index is None:
        return None
    unpaired = audio_index != torch.arange(len(audio_index))
    return unpaired.repeat(count // len(unpaired)) if unpaired.any() else None
