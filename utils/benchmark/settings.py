"""Options of benchmark.py. Does not import PyTorch: `benchmark.py --help` has to be instant."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from utils.dubbing.settings import EXAMPLE_AUDIO, EXAMPLE_SOURCE, SHIPPED_MEL_WEIGHTS
from utils.settings import option, positive_int


@dataclass(frozen=True)
class InferenceBenchmark:
    """Options of `benchmark.py inference`."""

    source_video_path: Path = option(EXAMPLE_SOURCE, type=Path, help="video to dub")
    driving_audio_path: Path = option(EXAMPLE_AUDIO, type=Path, help="speech")
    seconds: list[float] = option([2.0], type=float, nargs="+", help="lengths of the dub; the speech is repeated")
    mouth_region_size: list[int] = option(
        [64, 128, 256], type=positive_int, nargs="+", help="sides of mouth regions in pixels"
    )
    source_size: list[str] = option(["512"], choices=("512", "720p", "1080p"), nargs="+", help="sizes of the video")
    precision: list[str] = option(
        ["fp32"],
        choices=("fp32", "bf16", "fp16"),
        nargs="+",
        help="precisions of this project to measure; the published procedure runs in fp32",
    )
    convolutions: list[str] = option(
        [],
        choices=("direct", "nnpack", "winograd", "fourier"),
        nargs="+",
        help="also measure the generator with these fp32 convolution algorithms alone; direct ones where the algorithm "
        "is slower or does not apply",
    )
    batch_size: int | None = option(None, type=positive_int, help="frames at a time; None: as in inference.py")
    feature_channel: int | None = option(
        None, type=positive_int, help="width of the generator; None: 256 as published, or that of --checkpoint"
    )
    checkpoint: Path | None = option(
        None,
        type=Path,
        help="generator weights, used by both procedures; None: random weights, equally fast",
    )
    published_code: Path | None = option(
        None,
        type=Path,
        help="also measure the generator of a checkout of the original repository in this folder, random weights; its "
        "code is run",
    )
    without_published: bool = option(False, help="do not run the published procedure end to end")
    figure_path: Path | None = option(None, type=Path, help="write a chart of where the time goes, such as time.png")
    rounds: int = option(3, type=positive_int, help="rounds of the generator measurement, of which the fastest counts")
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")
    threads: int | None = option(
        None, type=positive_int, help="CPU threads; None: the number of cores, or OMP_NUM_THREADS"
    )
    json_path: Path | None = option(None, type=Path, help="file for the figures")


@dataclass(frozen=True)
class StreamBenchmark:
    """Options of `benchmark.py stream`."""

    source_video_path: Path = option(EXAMPLE_SOURCE, type=Path, help="video to dub")
    driving_audio_path: Path = option(EXAMPLE_AUDIO, type=Path, help="speech")
    pretrained_clip_DINet_path: Path = option(SHIPPED_MEL_WEIGHTS, type=Path, help="DINet weights for mel features")
    seconds: float = option(10.0, type=float, help="length of the speech, which is repeated")
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")
    threads: int | None = option(
        None, type=positive_int, help="CPU threads; None: the number of cores, or OMP_NUM_THREADS"
    )
    json_path: Path | None = option(None, type=Path, help="file for the figures")


@dataclass(frozen=True)
class TrainingBenchmark:
    """Options of `benchmark.py training`."""

    train_data: Path | None = option(None, type=Path, help="training json; None: synthetic images")
    perceptual_weights: Path | None = option(
        None, type=Path, help="VGG weights; None: VGG19 with random weights, equally fast"
    )
    mouth_region_size: int = option(64, type=positive_int, help="side of the mouth region in pixels")
    batch_size: int = option(8, type=positive_int, help="samples per step")
    steps: int = option(3, type=positive_int, help="training steps per round")
    rounds: int = option(3, type=positive_int, help="rounds, of which the fastest counts")
    amp: list[str] = option(
        ["off"],
        choices=("off", "bf16", "fp16"),
        nargs="+",
        help="precisions of this project to measure; the published loop runs in fp32",
    )
    num_workers: int | None = option(None, type=int, help="loader processes of this project; None: as in training")
    cache: str = option("none", choices=("none", "ram", "device"), help="where this project keeps its crops")
    channels_last: bool | None = option(
        None, action=argparse.BooleanOptionalAction, help="memory layout; None: as in training"
    )
    compile: bool = option(False, help="compile this project's networks with torch.compile")
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")
    threads: int | None = option(None, type=positive_int, help="CPU threads of PyTorch; None: as many as it takes")
    json_path: Path | None = option(None, type=Path, help="file for the figures")
