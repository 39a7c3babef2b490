"""Measure speed, ours and that of the published procedure: python benchmark.py inference|training|stream."""

import json
import logging
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from config.benchmark import BenchmarkParser
from config.parser import make_settings
from utils.benchmark.settings import InferenceBenchmark, StreamBenchmark, TrainingBenchmark
from utils.errors import make_folder, run_script
from utils.files import atomic_path

# PyTorch takes seconds to load: functions import it, not this file, so that --help and a mistyped option need not wait.
if TYPE_CHECKING:
    import torch

    from utils.benchmark.generators import Generators
    from utils.benchmark.synthetic import DubbingInputs

logger = logging.getLogger(__name__)

SOURCE_SIZES = {"512": (512, 512), "720p": (1280, 720), "1080p": (1920, 1080)}
"""Width and height of the videos to dub."""


def measure_generator(
    settings: InferenceBenchmark,
    generators: "Generators",
    size: int,
    device: "torch.device",
    peaks: Mapping[str, float],
) -> dict:
    """Frames per second of the generator alone: the published forward pass, frame by frame, and ours by precision.

    `peaks` are the device's FLOP per second by precision, "fp32" among them.
    """
    from utils.benchmark.clock import rounds_in_turn
    from utils.benchmark.generators import our_variants, published_variants, random_inputs

    inputs = random_inputs(generators.audio_feature, size)
    variants = published_variants(generators, inputs, device) | our_variants(settings, generators, inputs, device)
    seconds = rounds_in_turn({name: variant.run for name, variant in variants.items()}, settings.rounds, 1, device)
    results = {name: variant.run()[:1, :, inputs.first_row :] for name, variant in variants.items()}
    speeds = {name: variants[name].frames / min(times) for name, times in seconds.items()}
    figures = {
        "frames_per_second": speeds,
        "times_published": _ratios(speeds, "published"),
        "largest_difference": {
            name: (result - results["published"]).abs().max().item()
            for name, result in results.items()
            if name != "published_code"  # other random weights
        },
        "direct_flop_per_frame": {name: variant.flops for name, variant in variants.items()},
        "direct_flop_share_of_peak": {
            name: speed * variants[name].flops / peaks.get(name[:4], peaks["fp32"]) for name, speed in speeds.items()
        },
        "seconds": seconds,
    }
    if "published_code" in speeds:
        figures["times_published_code"] = _ratios(speeds, "published_code")
    logger.info(f"generator, mouth {size}: {figures}")
    return figures


def _ratios(speeds: Mapping[str, float], baseline: str) -> dict[str, float]:
    return {name: speed / speeds[baseline] for name, speed in speeds.items()}


def measure_dubbing(
    settings: InferenceBenchmark,
    generators: "Generators",
    size: int,
    inputs: "DubbingInputs",
    device: "torch.device",
    folder: Path,
) -> dict:
    """Frames per second of a whole dub with known landmarks, published and ours by precision; seconds by stage."""
    from utils.benchmark.published_inference import PublishedDubbing
    from utils.device import default_batch_size, peak_memory
    from utils.dubbing.engine import Dubber
    from utils.dubbing.run import Speech
    from utils.dubbing.settings import DubbingJob, DubbingOptions

    channels = inputs.features.kind.channels

    def dub_published(network: "torch.nn.Module") -> tuple[int, dict[str, float]]:
        with tempfile.TemporaryDirectory(dir=folder) as frames:
            dubbing = PublishedDubbing(network, size, device, Path(frames))
            windows = inputs.features.window(inputs.times)
            count = dubbing.dub(inputs.source, inputs.points, windows, inputs.audio, folder / "published.mp4")
        return count, dubbing.seconds

    def dub(precision: str) -> tuple[int, dict[str, float]]:
        generator = generators.ours(channels, precision, size)
        dubber = Dubber(generator, lambda path: Speech(inputs.features, inputs.duration, path))
        batch = settings.batch_size or default_batch_size(device, generator.threads)
        job = DubbingJob(inputs.source, inputs.audio, folder / f"{precision}.mp4", inputs.landmark_path)
        report = dubber.dub(job, DubbingOptions(batch_size=batch))
        return report.frames, report.seconds

    published = {} if settings.without_published else generators.published(channels)
    speeds, stages, totals, memory = {}, {}, {}, {}
    for name in (*published, *settings.precision):
        began = time.perf_counter()
        count, stages[name] = dub_published(published[name]) if name in published else dub(name)
        totals[name] = time.perf_counter() - began
        speeds[name] = count / totals[name]
        memory[name] = peak_memory(device)
        logger.info(f"mouth {size}, {inputs.source.name}, {name}: {speeds[name]:.2f} frames per second")
    figures = {
        "frames_per_second": speeds,
        "seconds": totals,
        "busy_seconds": stages,
        "peak_memory_mib_so_far": memory,
    }
    for name in published:
        figures[f"times_{name}"] = _ratios(speeds, name)
    return figures


def inference(settings: InferenceBenchmark) -> dict:
    """Figures of the inference command."""
    import torch

    from utils.benchmark.clock import device_name, draw_stages, peak_flops
    from utils.benchmark.generators import Generators
    from utils.benchmark.synthetic import dubbing_inputs
    from utils.device import choose_device, choose_dtype, peak_memory

    device = choose_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    generators = Generators(settings, device)
    precisions = dict.fromkeys(["fp32", *settings.precision])
    peaks = {precision: peak_flops(device, choose_dtype(precision, device)) for precision in precisions}
    sizes = settings.mouth_region_size
    figures: dict = {
        "device": device_name(device),
        "torch": torch.__version__,
        "peak_flop_per_second": peaks,
        "generator": {size: measure_generator(settings, generators, size, device, peaks) for size in sizes},
        "dubbing": {},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for source in settings.source_size:
            for length in settings.seconds:
                inputs = dubbing_inputs(settings, SOURCE_SIZES[source], length, generators.audio_feature, folder)
                for size in sizes:
                    figures["dubbing"][f"mouth {size}, source {source}, {length:g} s"] = measure_dubbing(
                        settings, generators, size, inputs, device, folder
                    )
    figures["peak_memory_mib"] = peak_memory(device)
    if settings.figure_path is not None:
        draw_stages(figures["dubbing"], settings.figure_path)
    return figures


class OurLoop:
    """The frame stage as train_DINet_frame.py runs it; `waited` counts the seconds spent waiting for data."""

    def __init__(
        self, settings: TrainingBenchmark, data: Path, vgg: "torch.nn.Module", device: "torch.device", amp: str
    ):
        from dataset.loading import open_training_data
        from dataset.manifest import read_manifest
        from dataset.samples import FrameSamples
        from dataset.settings import LoadingSettings
        from utils.distributed import DistInfo
        from utils.face.crop_geometry import mouth_region
        from utils.training.build import make_dinet_networks
        from utils.training.dinet_step import FrameStep
        from utils.training.networks import TrainingNetworks
        from utils.training.settings import LossWeights, NetworkSettings, OptimisationSettings

        loading = LoadingSettings(
            data,
            augment_num=-(-settings.batch_size * 4 // len(read_manifest(data))),
            batch_size=settings.batch_size,
            mouth_region_size=settings.mouth_region_size,
            num_workers=settings.num_workers,
            cache=settings.cache,
        )
        alone = DistInfo()
        loaded = open_training_data(FrameSamples, loading, alone, device)
        optimisation = OptimisationSettings(amp=amp, channels_last=settings.channels_last, compile=settings.compile)
        networks = make_dinet_networks(NetworkSettings(), loaded.kind.channels)
        self.networks = TrainingNetworks(networks, dict.fromkeys(networks, 1e-4), optimisation, alone, device)
        mouth = mouth_region(settings.mouth_region_size)
        self.train = FrameStep(self.networks, mouth, LossWeights(), vgg)
        self.batches = loaded.train.stream(1, 0)
        self.waited = 0.0

    def step(self) -> None:
        """Train on the next batch."""
        import torch

        began = time.perf_counter()
        batch = next(self.batches)
        self.waited += time.perf_counter() - began
        torch.stack(list(self.train(**batch).values())).tolist()  # read after every step, as in the training loop


def measure_training(settings: TrainingBenchmark, device: "torch.device", data: Path) -> dict:
    """Run the published loop and ours in turn, round by round; figures by name."""
    from dataset.manifest import read_manifest
    from models.perceptual import PerceptualNetwork
    from utils.benchmark.clock import device_name, rounds_in_turn
    from utils.benchmark.published_training import PublishedLoop
    from utils.benchmark.synthetic import random_vgg19
    from utils.distributed import DistInfo
    from utils.training.vgg_weights import load_perceptual_network

    def make_vgg() -> PerceptualNetwork:
        if settings.perceptual_weights is None:
            return PerceptualNetwork(random_vgg19())
        return load_perceptual_network(settings.perceptual_weights, DistInfo())

    samples = settings.steps * settings.batch_size
    loops: dict[str, PublishedLoop | OurLoop] = {
        "published": PublishedLoop(settings, read_manifest(data), make_vgg(), device)
    }
    try:
        for amp in settings.amp:
            loops[amp] = OurLoop(settings, data, make_vgg(), device, amp)
        seconds = rounds_in_turn(
            {name: loop.step for name, loop in loops.items()}, settings.rounds, settings.steps, device
        )
    finally:
        for amp in settings.amp:
            if amp in loops:
                loops[amp].batches.close()
    # The fastest round is the one that other programs disturbed least.
    speeds = {name: samples / min(times) for name, times in seconds.items()}
    return {
        "device": device_name(device),
        "mouth_region_size": settings.mouth_region_size,
        "batch_size": settings.batch_size,
        "samples_per_second": speeds,
        "times_published": _ratios(speeds, "published"),
        "data_wait": {name: loops[name].waited / sum(seconds[name]) for name in settings.amp},
        "seconds": seconds,
    }


def training(settings: TrainingBenchmark) -> dict:
    """Figures of the training command."""
    import torch

    from utils.benchmark.published_generator import SEED
    from utils.device import choose_device
    from utils.training.networks import check_sizes
    from utils.training.settings import NetworkSettings

    device = choose_device(settings.device)
    check_sizes(NetworkSettings(), settings.mouth_region_size, settings.batch_size, True, "use 64 or more")
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(SEED)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    with tempfile.TemporaryDirectory() as folder:
        return measure_training(settings, device, settings.train_data or make_synthetic_data(Path(folder)))


def make_synthetic_data(folder: Path) -> Path:
    """Write a training set of blurred noise; returns its json."""
    from dataset.manifest import Clip, Video, write_manifest
    from utils.benchmark.synthetic import write_synthetic_clips
    from utils.speech.features import KINDS

    kind = KINDS["deepspeech"]
    clips = [Clip(paths, 0, features) for paths, features in write_synthetic_clips(folder, kind.channels)]
    json_path = folder / "training_json.json"
    write_manifest(json_path, [Video("synthetic", clips, kind)])
    return json_path


def main() -> None:
    """Run the script."""
    options = BenchmarkParser().parse_args()
    for option in ("json_path", "figure_path"):
        path = getattr(options, option, None)
        if path is not None:
            make_folder(path.parent, f"--{option}")
    if options.command == "inference":
        figures = inference(make_settings(InferenceBenchmark, options))
    elif options.command == "training":
        figures = training(make_settings(TrainingBenchmark, options))
    else:
        from utils.benchmark.streaming import stream

        figures = stream(make_settings(StreamBenchmark, options))
    text = json.dumps(figures, indent=1)
    logger.info(text)
    if options.json_path is not None:
        with atomic_path(options.json_path) as partial:
            partial.write_text(text, encoding="utf-8")


def command() -> None:
    """Run the installed command (pyproject.toml)."""
    run_script(main)


if __name__ == "__main__":
    command()
