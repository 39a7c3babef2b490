"""The network as the dubbing engine calls it: face crops and audio in, faces with a new mouth out."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

import torch

from models.dinet import DINet
from models.inference_form import assume_masked
from utils.face.crop_geometry import mouth_region


class MouthGenerator(Protocol):
    """What the engine needs of a generator."""

    mouth_region_size: int
    device: torch.device

    def set_references(self, references: torch.Tensor) -> None:
        """Take the five reference crops, float32 [5, 3, H, W] in [0, 1], for all calls that follow."""

    def __call__(self, crops: torch.Tensor, audio: torch.Tensor, first_row: int = 0) -> torch.Tensor:
        """Faces [B, 3, H, W] in [0, 1] from unmasked crops [B, 3, H, W] and audio windows [B, channels, T].

        Rows above `first_row`, a multiple of 4, are not used by the caller.
        """


class DINetMouthGenerator:
    """A DINet network in eval mode, its references encoded once.

    Args:
        network: a DINet prepared by optimize_for_inference, on `device` and in `dtype`.
        mouth_region_size: side of the mouth region in pixels.
        device: where to run it.
        dtype: number format of its convolutions.
        threads: frames computed at a time on the CPU, each by one thread, which is faster than all threads on one
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
        references = self._copy_to_device(references.flatten(0, 1)[None])
        self.reference_features = self._run(self.network.encode_reference, [(references,)])[0]

    @torch.inference_mode()
    def __call__(self, crops: torch.Tensor, audio: torch.Tensor, first_row: int = 0) -> torch.Tensor:
        """See MouthGenerator; rows above `first_row` are those of `crops`."""
        masked = self._copy_to_device(crops)
        rows, columns = mouth_region(self.mouth_region_size)
        masked[:, :, rows, columns] = 0
        features, audio = self.reference_features, audio.to(self.dtype)
        pieces = [(masked, audio)] if self._workers is None else zip(masked.split(1), audio.split(1), strict=True)
        tasks = [(crop, features, speech, first_row) for crop, speech in pieces]
        faces = torch.cat(self._run(self.network.generate, tasks)).float()
        return torch.cat([crops[:, :, :first_row].to(faces.device), faces], 2) if first_row else faces

    def _run(self, function: Callable, tasks: list[tuple]) -> list:
        """Results of `function` for the arguments of each task, by the threads of the pool if there is one."""
        # The inference mode of the caller's thread does not hold in the pool's.
        compute = torch.inference_mode()(function)
        if self._workers is None:
            return [compute(*task) for task in tasks]
        return [future.result() for future in [self._workers.submit(compute, *task) for task in tasks]]

    def _copy_to_device(self, images: torch.Tensor) -> torch.Tensor:
        """A copy on the device, in the network's number format and layout."""
        return images.to(self.device, self.dtype, memory_format=torch.channels_last, copy=True)
