"""The trained network as the dubbing engine sees it: face crops and audio in, faces with a new mouth out."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

import torch

from models.dinet import DINet
from models.inference_form import assume_masked
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
        threads: frames computed at a time on the CPU, each by one thread, which is quicker than all threads on one
            frame. On CUDA a batch is computed as a whole.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        mouth_region_size: int,
        device: torch.device,
        dtype: torch.dtype,
        threads: int | None = None,
    ):
        self.mouth_region_size = mouth_region_size
        self.device = device
        self.dtype = dtype
        self.network = network
        self.reference_features = None
        self.threads = 1
        self._workers: ThreadPoolExecutor | None = None
        if device.type == "cpu":
            self.threads = threads or torch.get_num_threads()
            # For the threads of the pool alone: other work of the process keeps its own number.
            self._workers = ThreadPoolExecutor(self.threads, "generator", partial(torch.set_num_threads, 1))
            if isinstance(network, DINet):
                assume_masked(network, *mouth_region(mouth_region_size))

    @torch.inference_mode()
    def set_references(self, references: torch.Tensor) -> None:
        """See MouthGenerator."""
        placed = self._placed(references.flatten(0, 1)[None])
        self.reference_features = self._computed(self.network.encode_reference, [(placed,)])[0]

    @torch.inference_mode()
    def __call__(self, crops: torch.Tensor, audio: torch.Tensor, first_row: int = 0) -> torch.Tensor:
        """See MouthGenerator; above `first_row` the crops are given back."""
        masked = self._placed(crops)
        rows, columns = mouth_region(self.mouth_region_size)
        masked[:, :, rows, columns] = 0
        features, audio = self.reference_features, audio.to(self.dtype)
        pieces = [(masked, audio)] if self._workers is None else zip(masked.split(1), audio.split(1), strict=True)
        tasks = [(picture, features, speech, first_row) for picture, speech in pieces]
        made = torch.cat(self._computed(self.network.generate, tasks)).float()
        return torch.cat([crops[:, :, :first_row].to(made.device), made], 2) if first_row else made

    def _computed(self, function: Callable, tasks: list[tuple]) -> list:
        """Results of `function` for the arguments of each task, by the threads of the pool if there is one."""
        # PyTorch's switch for inference is that of a thread.
        compute = torch.inference_mode()(function)
        if self._workers is None:
            return [compute(*task) for task in tasks]
        return [future.result() for future in [self._workers.submit(compute, *task) for task in tasks]]

    def _placed(self, pictures: torch.Tensor) -> torch.Tensor:
        """A copy on the device, in the network's number format and layout."""
        return pictures.to(self.device, self.dtype, memory_format=torch.channels_last, copy=True)
