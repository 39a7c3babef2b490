"""Speed, side by side with a straight reading of the published code, for benchmark.py."""

import argparse
import contextlib
import logging
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from dataset.loading import open_training_data
from dataset.manifest import Clip, Video, read_manifest, write_manifest
from dataset.samples import FrameSamples
from dataset.settings import LoadingSettings
from models.dinet import ANGLE, AUDIO_EMBEDDING_DIM, AdaAT, DINet
from models.inference_form import optimize_for_inference
from models.perceptual import VGG19_CONVS, PerceptualNetwork
from utils.benchmark.published_inference import PublishedDubbing
from utils.data_processing.settings import clip_name, frame_name
from utils.device import choose_device, choose_dtype, default_batch_size
from utils.distributed import DistInfo
from utils.dubbing.blending import first_seen_row
from utils.dubbing.engine import Dubber, Speech
from utils.dubbing.generator import DINetMouthGenerator
from utils.dubbing.settings import DubbingJob, DubbingOptions
from utils.face.crop_geometry import mouth_region, network_size
from utils.face.landmarks import follow_face
from utils.face.openface_csv import write_openface_csv
from utils.face.tracker import FaceTracker
from utils.files import atomic_path
from utils.media.audio import Waveform, load_waveform, write_wav
from utils.media.images import write_jpeg
from utils.media.video_reader import VideoReader
from utils.media.video_writer import VideoWriter
from utils.media.yuv import rgb_patch, set_rgb_patch
from utils.speech.extractor import FeatureExtractor
from utils.speech.features import KINDS
from utils.training.build import make_dinet_networks
from utils.training.dinet_step import FrameStep
from utils.training.log import peak_memory
from utils.training.networks import TrainingNetworks, check_sizes
from utils.training.settings import LossWeights, NetworkSettings, OptimisationSettings
from utils.training.vgg_weights import load_perceptual_network

logger = logging.getLogger(__name__)

MADE_UP_CLIPS = 8
MADE_UP_CROP = network_size(256)
"""Height and width of made-up crops: as of a face in a video of 512 pixels."""
SEED = 456
SOURCE_SIZES = {"512": (512, 512), "720p": (1280, 720), "1080p": (1920, 1080)}
"""Width and height of the videos to dub."""


class VolumeAdaAT(AdaAT):
    """AdaAT the published way: every channel's grid is a slice of a volume, sampled trilinearly."""

    def forward(self, feature: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """See AdaAT."""
        batch, channels, height, width = feature.shape
        code = self.commn_linear(code)
        scale = 2 * self.scale(code)[..., None, None]
        angle = ANGLE * self.rotation(code)[..., None, None]
        translation = self.translation(code).view(batch, channels, 1, 1, 2)
        x = torch.linspace(-1, 1, width, device=feature.device).expand(height, width)
        y = torch.linspace(-1, 1, height, device=feature.device)[:, None].expand(height, width)
        moved = torch.stack([x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()], -1)
        moved = scale[..., None] * moved + translation
        depth = torch.linspace(-1, 1, channels, device=feature.device).view(1, channels, 1, 1, 1)
        grid = torch.cat([moved, depth.expand(batch, channels, height, width, 1)], -1)
        return F.grid_sample(feature[:, None], grid, align_corners=False)[:, 0]


class PublishedSamples(Dataset):
    """Frame-stage samples the published way: crops read, resized and turned into floats one by one when needed."""

    def __init__(self, videos: list[Video], count: int, mouth_region_size: int):
        self.videos = videos
        self.count = count
        self.height, self.width = network_size(mouth_region_size)
        self.mouth = mouth_region(mouth_region_size)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        """Source, masked source, references and speech."""
        random = np.random.default_rng((SEED, index))
        video = self.videos[index % len(self.videos)]
        source, *references = random.choice(len(video.clips), 6, replace=len(video.clips) < 6)
        frame = int(random.integers(2, 7))
        rows = video.kind.rows_per_frame
        speech = video.clip_features(video.clips[source])[(frame - 2) * rows : (frame + 3) * rows]
        picture = self._read(video.clips[source].frame_paths[frame])
        masked = picture.copy()
        masked[self.mouth] = 0
        stacked = np.concatenate([self._read(video.clips[i].frame_paths[random.integers(9)]) for i in references], 2)
        pictures = (torch.from_numpy(part).float().permute(2, 0, 1) for part in (picture, masked, stacked))
        return *pictures, torch.from_numpy(speech.T.copy())

    def _read(self, path: str) -> np.ndarray:
        return cv2.resize(cv2.imread(path)[:, :, ::-1], (self.width, self.height)) / 255


class PublishedLoop:
    """The published frame stage: all in float32, one process, every gradient computed, wanted or not."""

    def __init__(self, options: argparse.Namespace, data: Path, vgg: nn.Module, device: torch.device):
        videos = read_manifest(data)
        networks = make_dinet_networks(NetworkSettings(), videos[0].kind.channels)
        networks["net_g"].adaAT = VolumeAdaAT()
        self.net_g, self.net_dI = (network.to(device) for network in networks.values())
        self.vgg = vgg.to(device)
        self.device = device
        self.optimizer_g = torch.optim.Adam(self.net_g.parameters(), lr=1e-4)
        self.optimizer_dI = torch.optim.Adam(self.net_dI.parameters(), lr=1e-4)
        count = options.batch_size * (1 + options.steps * options.rounds)
        samples = PublishedSamples(videos, count, options.mouth_region_size)
        self.batches = iter(DataLoader(samples, options.batch_size, shuffle=True, drop_last=True))

    def step(self) -> None:
        """Train on the next batch."""
        source, masked, reference, audio = (part.to(self.device) for part in next(self.batches))
        fake = self.net_g(masked, reference, audio)
        half_fake = F.avg_pool2d(fake, 3, stride=2, padding=1, count_include_pad=False)
        half_source = F.interpolate(source, scale_factor=0.5, mode="bilinear")

        self.optimizer_dI.zero_grad()
        _, fake_score = self.net_dI(fake)
        _, real_score = self.net_dI(source)
        loss_dI = (self._mse(fake_score, 0) + self._mse(real_score, 1)) * 0.5
        loss_dI.backward(retain_graph=True)
        self.optimizer_dI.step()

        _, fake_score = self.net_dI(fake)
        self.optimizer_g.zero_grad()
        distances = []
        for fake_scale, real_scale in ((fake, source), (half_fake, half_source)):
            pairs = zip(self.vgg(fake_scale), self.vgg(real_scale), strict=True)
            distances += [F.l1_loss(one, two.detach()) for one, two in pairs]
        loss_g = 10 * torch.stack(distances).mean() + self._mse(fake_score, 1)
        loss_g.backward()
        self.optimizer_g.step()
        for loss in (loss_dI, loss_g):
            loss.item()  # shown after every step

    @staticmethod
    def _mse(score: torch.Tensor, target: float) -> torch.Tensor:
        return F.mse_loss(score, torch.full_like(score, target))


class OwnLoop:
    """The frame stage as train_DINet_frame.py runs it; `waited` counts the seconds that data was waited for."""

    def __init__(self, options: argparse.Namespace, data: Path, vgg: nn.Module, device: torch.device, amp: str):
        settings = LoadingSettings(
            data,
            augment_num=math.ceil(options.batch_size * 4 / len(read_manifest(data))),
            batch_size=options.batch_size,
            mouth_region_size=options.mouth_region_size,
            num_workers=options.num_workers,
            cache=options.cache,
        )
        alone = DistInfo()
        loaded = open_training_data(FrameSamples, settings, alone, device)
        optimisation = OptimisationSettings(amp=amp, channels_last=options.channels_last, compile=options.compile)
        networks = make_dinet_networks(NetworkSettings(), loaded.kind.channels)
        self.networks = TrainingNetworks(networks, dict.fromkeys(networks, 1e-4), optimisation, alone, device)
        mouth = mouth_region(options.mouth_region_size)
        self.train = FrameStep(self.networks, mouth, LossWeights(), vgg)
        self.batches = loaded.train.stream(1, 0)
        self.waited = 0.0

    def step(self) -> None:
        """Train on the next batch."""
        began = time.perf_counter()
        batch = next(self.batches)
        self.waited += time.perf_counter() - began
        torch.stack(list(self.train(**batch).values())).tolist()  # looked at after every step, as in the training loop


def make_up_data(folder: Path) -> Path:
    """Write a training set of blurred noise; gives its json."""
    random = np.random.default_rng(SEED)
    kind = KINDS["deepspeech"]
    height, width = MADE_UP_CROP
    clips = []
    for clip in range(MADE_UP_CLIPS):
        target = folder / clip_name(clip)
        target.mkdir()
        paths = [target / frame_name(clip * 9 + frame) for frame in range(9)]
        for path in paths:
            noise = random.integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
            write_jpeg(path, cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))
        features = random.standard_normal((9, kind.channels)).astype(np.float32)
        clips.append(Clip([path.as_posix() for path in paths], 0, features))
    json_path = folder / "training_json.json"
    write_manifest(json_path, [Video("made_up", clips, kind)])
    return json_path


def random_vgg19() -> dict[str, torch.Tensor]:
    """Random weights for VGG19 that keep the size of its features."""
    random = torch.Generator().manual_seed(SEED)
    weights, before = {}, 3
    for stage, width in zip(VGG19_CONVS, (64, 128, 256, 512, 512), strict=True):
        for index in stage:
            weight = torch.randn(width, before, 3, 3, generator=random) * math.sqrt(2 / (9 * before))
            weights |= {f"features.{index}.weight": weight, f"features.{index}.bias": torch.zeros(width)}
            before = width
    return weights


def timed(steps: int, step: Callable[[], None], device: torch.device) -> float:
    """Seconds that some steps take."""
    began = time.perf_counter()
    for _ in range(steps):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def device_name(device: torch.device) -> str:
    """The device, for the record."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


def measure_training(options: argparse.Namespace, device: torch.device, data: Path) -> dict:
    """Run the published loop and ours in turn, round by round; figures by name."""

    def make_vgg() -> PerceptualNetwork:
        if options.perceptual_weights is None:
            return PerceptualNetwork(random_vgg19())
        return load_perceptual_network(options.perceptual_weights, DistInfo())

    samples = options.steps * options.batch_size
    seconds: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        loops = {"published": PublishedLoop(options, data, make_vgg(), device)}
        for amp in options.amp:
            loops[amp] = OwnLoop(options, data, make_vgg(), device, amp)
            stack.enter_context(contextlib.closing(loops[amp].batches))
        for loop in loops.values():
            timed(1, loop.step, device)  # to allocate, choose algorithms, start loaders
            loop.waited = 0.0
        for number in range(options.rounds):
            for name, loop in loops.items():
                seconds.setdefault(name, []).append(timed(options.steps, loop.step, device))
                speed = samples / seconds[name][-1]
                logger.info(f"round {number + 1}, {name}: {speed:.2f} samples a second")
    # The fastest round is the one that other programs disturbed least.
    speeds = {name: samples / min(times) for name, times in seconds.items()}
    return {
        "device": device_name(device),
        "mouth_region_size": options.mouth_region_size,
        "batch_size": options.batch_size,
        "samples_per_second": speeds,
        "times_published": {name: speed / speeds["published"] for name, speed in speeds.items()},
        "data_wait": {name: loops[name].waited / sum(seconds[name]) for name in options.amp},
        "seconds": seconds,
    }


def training(options: argparse.Namespace) -> dict:
    """Figures of the training command."""
    device = choose_device(options.device)
    check_sizes(NetworkSettings(), options.mouth_region_size, options.batch_size, True, "use 64 or more")
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(SEED)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        return measure_training(options, device, options.train_data or make_up_data(Path(folder)))


def make_source(options: argparse.Namespace, size: tuple[int, int], folder: Path) -> Path:
    """The example (or `--source_video_path`) at a size (width, height), filled up with its edges, as H.264."""
    reader = VideoReader(options.source_video_path)
    info = reader.info
    width, height = size
    scale = min(width / info.width, height / info.height)
    inner = (round(info.width * scale), round(info.height * scale))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    sides = (top, height - inner[1] - top, left, width - inner[0] - left)
    path = folder / f"{options.source_video_path.stem}_{width}x{height}.mp4"
    with VideoWriter(path, width, height, info.rate, info.colour, comment="made by benchmark.py") as writer:
        for frame in reader.frames():
            picture = cv2.resize(rgb_patch(frame.yuv, 0, info.height, 0, info.width, info.colour), inner)
            picture = cv2.copyMakeBorder(picture, *sides, cv2.BORDER_REPLICATE)
            yuv = np.empty((height * 3 // 2, width), np.uint8)
            set_rgb_patch(yuv, 0, 0, picture, info.colour)
            writer.write(yuv)
    return path


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Multiplications and additions a second of a large matrix product: what the device reaches at best."""
    size = 8192 if device.type == "cuda" else 1536
    one, two = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    for _ in range(2):
        one @ two
    return 2 * size**3 * 5 / timed(5, lambda: one @ two, device)


def random_dinet(audio_channel: int, width: int, published: bool = False) -> DINet:
    """A generator in eval mode with random weights, and with the published sampling if wanted."""
    torch.manual_seed(SEED)
    network = DINet(audio_channel=audio_channel, feature_channel=width)
    if published:
        network.adaAT = VolumeAdaAT(width // 2 + AUDIO_EMBEDDING_DIM, width)
    return network.eval()


def counted_flops(step: Callable[[], None]) -> int:
    """Multiplications and additions of one call."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def measure_generator(options: argparse.Namespace, size: int, device: torch.device, peaks: Mapping[str, float]) -> dict:
    """Frames a second of the generator alone: the published forward pass, frame by frame, and ours by precision.

    `peaks` are the device's multiplications and additions a second by precision, "fp32" among them.
    """
    height, width = network_size(size)
    crops, references, audio = torch.rand(8, 3, height, width), torch.rand(1, 15, height, width), torch.randn(8, 80, 20)
    width, channels = options.feature_channel, audio.shape[1]
    published = random_dinet(channels, width, published=True).to(device)

    def published_frame() -> None:
        with torch.no_grad():
            published(crops[:1].to(device), references.to(device), audio[:1].to(device)).cpu()

    first_row = first_seen_row(size)
    ways: dict[str, tuple[Callable[[], None], int]] = {"published": (published_frame, 1)}
    for precision in options.precision:
        dtype = choose_dtype(precision, device)
        network = optimize_for_inference(random_dinet(channels, width), device, dtype)
        generator = DINetMouthGenerator(network, size, device, dtype)
        generator.set_references(references[0].unflatten(0, (5, 3)))
        batch = options.batch_size or default_batch_size(device, generator.threads)
        some, speech = (x.repeat(batch, *[1] * (x.dim() - 1))[:batch] for x in (crops, audio))
        ways[precision] = (lambda g=generator, c=some, a=speech: g(c.to(device), a.to(device), first_row).cpu(), batch)
    flops = {name: counted_flops(step) / batch for name, (step, batch) in ways.items()}
    seconds: dict[str, list[float]] = {}
    for step, _ in ways.values():
        timed(1, step, device)
    for _ in range(options.rounds):
        for name, (step, batch) in ways.items():
            seconds.setdefault(name, []).append(timed(1, step, device) / batch)
    speeds = {name: 1 / min(times) for name, times in seconds.items()}
    figures = {
        "frames_per_second": speeds,
        "times_published": {name: speed / speeds["published"] for name, speed in speeds.items()},
        "flop_per_frame": flops,
        "share_of_peak": {name: speed * flops[name] / peaks.get(name, peaks["fp32"]) for name, speed in speeds.items()},
    }
    logger.info(f"generator, mouth {size}: {figures}")
    return figures


def measure_dubbing(
    options: argparse.Namespace, size: int, name: str, length: float, device: torch.device, folder: Path
) -> dict:
    """Frames a second of a whole dub with landmarks at hand, published and ours by precision, and where time goes.

    `length` is that of the result in seconds.
    """
    source = make_source(options, SOURCE_SIZES[name], folder)
    reader = VideoReader(source)
    tracker = FaceTracker(float(reader.info.rate))
    count = 0
    for frame in reader.frames():
        tracker.add(frame.luma)
        count += 1
    table = tracker.finish(np.zeros(1, int))
    csv_path = folder / f"{source.stem}.csv"
    write_openface_csv(csv_path, table, float(reader.info.rate))
    points = follow_face(table, count, np.zeros(1, int))
    audio = folder / "speech.wav"
    waveform = load_waveform(options.driving_audio_path, "--driving_audio_path")
    write_wav(audio, Waveform(np.resize(waveform.samples, round(length * waveform.rate)), waveform.rate))
    features, duration = FeatureExtractor("mel").extract(audio, "--driving_audio_path")
    ticks = np.arange(round(duration * reader.info.rate)) / float(reader.info.rate)
    channels = features.kind.channels

    def published() -> tuple[int, dict[str, float]]:
        network = random_dinet(channels, options.feature_channel, published=True)
        with tempfile.TemporaryDirectory(dir=folder) as frames:
            way = PublishedDubbing(network.to(device), size, device, Path(frames))
            made = way.dub(source, points, features.window(ticks), audio, folder / "published.mp4")
        return made, way.seconds

    def ours(precision: str) -> tuple[int, dict[str, float]]:
        dtype = choose_dtype(precision, device)
        network = optimize_for_inference(random_dinet(channels, options.feature_channel), device, dtype)
        generator = DINetMouthGenerator(network, size, device, dtype)
        dubber = Dubber(generator, lambda path: Speech(features, duration, path))
        batch = options.batch_size or default_batch_size(device, generator.threads)
        report = dubber.dub(
            DubbingJob(source, audio, folder / f"{precision}.mp4", csv_path), DubbingOptions(batch_size=batch)
        )
        return report.frames, report.seconds

    speeds, stages, totals, memory = {}, {}, {}, {}
    for way in (*([] if options.without_published else ["published"]), *options.precision):
        began = time.perf_counter()
        made, stages[way] = published() if way == "published" else ours(way)
        totals[way] = time.perf_counter() - began
        speeds[way] = made / totals[way]
        memory[way] = peak_memory(device)
        logger.info(f"mouth {size}, source {name}, {length:g} s, {way}: {speeds[way]:.2f} frames a second")
    figures = {
        "frames_per_second": speeds,
        "seconds": totals,
        "busy_seconds": stages,
        "peak_memory_mib_so_far": memory,
    }
    if not options.without_published:
        figures["times_published"] = {way: speed / speeds["published"] for way, speed in speeds.items()}
    return figures


def draw_stages(dubbing: dict[str, dict], path: Path) -> None:
    """Picture of where the time goes: busy seconds of each stage, one bar a way."""
    from matplotlib.figure import Figure

    bars = [(f"{case}\n{way}", stages) for case, dub in dubbing.items() for way, stages in dub["busy_seconds"].items()]
    names = list(dict.fromkeys(name for _, stages in bars for name in stages))
    figure = Figure(figsize=(10, 1.2 + 0.8 * len(bars)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(bars))
    for number, name in enumerate(names):
        seconds = np.array([stages.get(name, 0.0) for _, stages in bars])
        axes.barh([label for label, _ in bars], seconds, left=left, label=name, color=f"C{number % 10}",
                  hatch="//" if number >= 10 else None)  # fmt: skip
        left += seconds
    axes.invert_yaxis()
    axes.set_xlabel("busy seconds (stages of ours overlap)")
    axes.legend(ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.25), fontsize="small", frameon=False)
    with atomic_path(path) as partial:
        figure.savefig(partial, format=path.suffix[1:] or "png", dpi=120)


def inference(options: argparse.Namespace) -> dict:
    """Figures of the inference command."""
    device = choose_device(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    precisions = dict.fromkeys(["fp32", *options.precision])
    peaks = {precision: peak_flops(device, choose_dtype(precision, device)) for precision in precisions}
    figures: dict = {
        "device": device_name(device),
        "torch": torch.__version__,
        "peak_flop_per_second": peaks,
        "generator": {size: measure_generator(options, size, device, peaks) for size in options.mouth_region_size},
    }
    with tempfile.TemporaryDirectory() as folder:
        figures["dubbing"] = {
            f"mouth {size}, source {name}, {length:g} s": measure_dubbing(
                options, size, name, length, device, Path(folder)
            )
            for size in options.mouth_region_size
            for name in options.source_size
            for length in options.seconds
        }
    figures["peak_memory_mib"] = peak_memory(device)
    if options.figure_path is not None:
        draw_stages(figures["dubbing"], options.figure_path)
    return figures
