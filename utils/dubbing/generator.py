"""The trained network as the dubbing engine sees it: face crops and audio in, faces with a new mouth out."""

from typing import Protocol

import torch

from utils.face.crop_geometry import mouth_region


class MouthGenerator(Protocol):
    """What the engine needs of a generator; tests put a double here."""

    mouth_region_size: int
    device: torch.device

    def set_references(self, references: torch.Tensor) -> None:
        """Take the five reference crops, float32 [5, 3, H, W] in [0, 1], for all calls that follow."""

    def __call__(self, crops: torch.Tensor, audio: torch.Tensor, first_row: int = 0) -> torch.Tensor:
        """Faces [B, 3, H, W] in [0, 1] from unmasked crops [B, 3, H, W] and audio windows [B, channels, T].

        Nobody looks at what is above `first_row`, a multiple of 4.
        """


class DINetMouthGenerator:
    """A DINet network in eval mode, its references encoded once.

    Args:
        network: a DINet in the form for inference, on the device and in the number format.
        mouth_region_size: side of the mouth region in pixels.
        device: where to run it.
        dtype: number format of its convolutions.
    """

    def __init__(self, network: torch.nn.Module, mouth_region_size: int, device: torch.device, dtype: torch.dtype):
        self.mouth_region_size = mouth_region_size
        self.device = device
        self.dtype = dtype
        self.network = network
        self.reference_features = None

    @torch.inference_mode()
    def set_references(self, references: torch.Tensor) -> None:
        """See MouthGenerator."""
        self.reference_features = self.network.encode_reference(self._placed(references.flatten(0, 1)[None]))

    @torch.inference_mode()
    def __call__(self, crops: torch.Tensor, audio: torch.Tensor, first_row: int = 0) -> torch.Tensor:
        """See MouthGenerator; above `first_row` the crops are given back."""
        masked = self._placed(crops)
        rows, columns = mouth_region(self.mouth_region_size)
        masked[:, :, rows, columns] = 0
        made = self.network.generate(masked, self.reference_features, audio.to(self.dtype), first_row).float()
        return torch.cat([crops[:, :, :first_row].to(made.device), made], 2) if first_row else made

    def _placed(self, pictures: torch.Tensor) -> torch.Tensor:
        """A copy on the device, in the network's number format and layout."""
        return pictures.to(self.device, self.dtype, memory_format=torch.channels_last, copy=True)
