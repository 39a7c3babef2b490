"""Lip loss for DINet on small data: what the generated lips should do, by two frozen networks (not in the paper)."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import nn

from utils.face.landmarks import opening_and_width
from utils.training.networks import TrainingNetworks
from utils.training.settings import LipSupervisionSettings
from utils.training.step import Losses

TARGET_RANGE = ((0.0, 5.8), (13.5, 19.3))
"""Least and largest lip opening and width of a target: 1 % and 99 % of those of 55 people who speak. Beyond them lips
that do not exist are demanded, and the generated face falls apart."""


class LipSupervision:
    """Compares lip opening and width, predicted from the generated mouth, with a target.

    The target is what the regressor predicts from the true mouth, plus an offset where the lips should differ from the
    true ones: because a sample is driven by another sample's audio (its lips and chin have no target image then; this
    loss, the GAN and sync losses and a comparison of textures train them), or because the motion is amplified. Such a
    target is limited to lips that exist.

    Args:
        settings: resolved; see LipSupervisionSettings.
        regressor: a trained `LipShapeRegressor`.
        audio2lip: a trained `AudioToLipShape`; None where the settings need none.
    """

    def __init__(self, settings: LipSupervisionSettings, regressor: nn.Module, audio2lip: nn.Module | None = None):
        self.weight = settings.lamb_lips
        # A regressor trained with MSE underestimates the motion: an amplitude above 1 compensates.
        self.amplitude = settings.lip_amplitude
        self.unpaired = settings.unpaired_audio
        self.regressor = regressor.eval().requires_grad_(False)
        self.audio2lip = None if audio2lip is None else audio2lip.eval().requires_grad_(False)

    def to_device(self, networks: TrainingNetworks) -> None:
        """Move the frozen networks to the device of the training."""
        networks.to_device(self.regressor)
        if self.audio2lip is not None:
            networks.to_device(self.audio2lip)

    def draw_audio_index(self, count: int) -> torch.Tensor:
        """Which sample's audio drives each sample of a batch, [count]: its own, or for some a random other one's."""
        audio_index = torch.arange(count)
        unpaired = torch.randperm(count)[: int(self.unpaired * count)] if self.unpaired else ()
        if count > 1 and len(unpaired):
            audio_index[unpaired] = (unpaired + 1 + torch.randint(count - 1, (len(unpaired),))) % count
        return audio_index

    @torch.no_grad()
    def lip_offset(
        self, own_audio: torch.Tensor, driving_audio: torch.Tensor, autocast: Callable[[], AbstractContextManager]
    ) -> torch.Tensor | None:
        """Offset of the lip target: amplitude * audio2lip(driving audio) - audio2lip(own audio).

        Args:
            own_audio: speech features of the true mouths, [B, channels, T].
            driving_audio: those that the generator is driven by, [B, channels, T].
            autocast: makes the context of a forward pass.

        Returns:
            (opening, width) [B, 2], or None where the true lips are the target.
        """
        if self.audio2lip is None:
            return None
        with autocast():
            driving, own = self.audio2lip(driving_audio).float(), self.audio2lip(own_audio).float()
        return torch.stack(opening_and_width(self.amplitude * driving - own), -1)

    def loss(self, fake_mouths: torch.Tensor, real_mouths: torch.Tensor, offset: torch.Tensor | None = None) -> Losses:
        """The weighted loss `lips`: MSE of the predictions from generated mouths [B, 3, m, m] to their targets."""
        if not self.weight:
            return {}
        with torch.no_grad():
            target = self.regressor(real_mouths).float()
        if offset is not None:
            least, largest = torch.tensor(TARGET_RANGE, device=target.device).T
            target = (target + offset).clamp(torch.minimum(least, target), torch.maximum(largest, target))
        return {"lips": self.weight * F.mse_loss(self.regressor(fake_mouths).float(), target)}
