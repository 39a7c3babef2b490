"""The generators that benchmark.py measures, and what it gives them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from models.dinet import FEATURE_CHANNELS, DINet
from models.inference_form import optimize_for_inference
from utils.benchmark.clock import counted_flops, direct_flops
from utils.benchmark.published_generator import load_published_code, random_dinet, with_published_sampling
from utils.benchmark.settings import InferenceBenchmark
from utils.checkpoints import load_network, read_checkpoint
from utils.device import choose_dtype, default_batch_size
from utils.dubbing.blending import first_visible_row
from utils.dubbing.generator import DINetMouthGenerator
from utils.dubbing.load import complete_metadata
from utils.dubbing.settings import LoadSettings
from utils.face.crop_geometry import mouth_region, network_size
from utils.speech.features import KINDS

CHECKPOINT_OPTION = "--checkpoint"


class Generators:
    """Generators to measure, with the same weights: random ones, or those of `--checkpoint`."""

    def __init__(self, settings: InferenceBenchmark, device: torch.device):
        self._settings, self._device = settings, device
        self._checkpoint = settings.checkpoint and read_checkpoint(settings.checkpoint, CHECKPOINT_OPTION)
        self.audio_feature, width = "mel", FEATURE_CHANNELS
        if self._checkpoint is not None:
            metadata = complete_metadata(LoadSettings(), self._checkpoint.metadata)
            self.audio_feature, width = metadata.audio_feature, metadata.feature_channel
        self._width = settings.feature_channel or width

    def _network(self, audio_channel: int) -> DINet:
        network = random_dinet(audio_channel, self._width)
        if self._checkpoint is not None:
            load_network(network, self._checkpoint, self._checkpoint.averaged("net_g"), CHECKPOINT_OPTION)
        return network

    def published(self, audio_channel: int) -> dict[str, torch.nn.Module]:
        """The published generators by name: our reading, and the user's checkout."""
        networks = {"published": with_published_sampling(self._network(audio_channel)).eval()}
        if self._settings.published_code is not None:
            networks["published_code"] = load_published_code(self._settings.published_code, audio_channel)
        return {name: network.to(self._device) for name, network in networks.items()}

    def ours(self, audio_channel: int, precision: str, mouth_region_size: int, **named):
        """Our generator as `Dubber` uses it; `named` goes to optimize_for_inference."""
        dtype = choose_dtype(precision, self._device)
        network = optimize_for_inference(self._network(audio_channel), self._device, dtype, **named)
        return DINetMouthGenerator(network, mouth_region_size, self._device, dtype, self._settings.threads)


@dataclass(frozen=True)
class GeneratorInputs:
    """Random inputs of a generator.

    Attributes:
        mouth_region_size: side of the mouth region in pixels.
        crops: (8, 3, H, W), in [0, 1].
        references: (1, 15, H, W).
        audio: (8, channels, rows), the features of a frame each.
        first_row: first row of the crop that is shown.
    """

    mouth_region_size: int
    crops: torch.Tensor
    references: torch.Tensor
    audio: torch.Tensor
    first_row: int

    def masked(self) -> torch.Tensor:
        """The crops with the mouth region set to 0."""
        masked = self.crops.clone()
        masked[(..., *mouth_region(self.mouth_region_size))] = 0
        return masked


@dataclass(frozen=True)
class Variant:
    """A generator to measure: `run` generates `frames` frames, of `flops` FLOP each, on the CPU."""

    run: Callable[[], torch.Tensor]
    frames: int
    flops: int


def random_inputs(audio_feature: str, mouth_region_size: int) -> GeneratorInputs:
    """Inputs for a generator that takes such audio features."""
    kind, shape = KINDS[audio_feature], network_size(mouth_region_size)
    return GeneratorInputs(
        mouth_region_size,
        torch.rand(8, 3, *shape),
        torch.rand(1, 15, *shape),
        torch.randn(8, kind.channels, 5 * kind.rows_per_frame),
        first_visible_row(mouth_region_size),
    )


def published_variants(generators: Generators, inputs: GeneratorInputs, device: torch.device) -> dict[str, Variant]:
    """The published forward pass, one frame at a time."""
    masked, references, audio = inputs.masked()[:1], inputs.references, inputs.audio

    def run(network: torch.nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return network(masked.to(device), references.to(device), audio[:1].to(device)).cpu()

    steps = {name: partial(run, network) for name, network in generators.published(audio.shape[1]).items()}
    return {name: Variant(step, 1, counted_flops(step)) for name, step in steps.items()}


def our_variants(
    settings: InferenceBenchmark, generators: Generators, inputs: GeneratorInputs, device: torch.device
) -> dict[str, Variant]:
    """Our generator by precision, and in fp32 by convolution algorithm, a batch at a time."""
    algorithms = {f"fp32, {algorithm}": [algorithm] for algorithm in settings.convolutions}
    variants = {}
    for name in (*settings.precision, *algorithms):
        chosen = {"algorithms": algorithms[name]} if name in algorithms else {}
        generator = generators.ours(inputs.audio.shape[1], name[:4], inputs.mouth_region_size, **chosen)
        generator.set_references(inputs.references[0].unflatten(0, (5, 3)))
        batch = settings.batch_size or default_batch_size(device, generator.threads)
        crops, audio = (x.repeat(batch, *[1] * (x.dim() - 1))[:batch] for x in (inputs.crops, inputs.audio))

        def run(generator=generator, crops=crops, audio=audio) -> torch.Tensor:
            return generator(crops.to(device), audio.to(device), inputs.first_row).cpu()

        flops = direct_flops(generator, inputs.masked()[:1], audio[:1], inputs.first_row)
        variants[name] = Variant(run, batch, flops)
    return variants
