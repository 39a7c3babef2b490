"""Options of a dub: weights and device, the job, how the result is made.

Does not import PyTorch: the scripts build their options from these dataclasses, and `--help` has to be instant.
"""

import argparse
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from utils.settings import as_paths, check_choices, folder_or_off, option, positive_int

PUBLISHED_WEIGHTS = Path("./asserts/clip_training_DINet_256mouth.pth")
_SHIPPED = Path(__file__).resolve().parents[2] / "asserts"
SHIPPED_WEIGHTS = _SHIPPED / "demo" / "DINet_demo.pth"
SHIPPED_MEL_WEIGHTS = _SHIPPED / "demo" / "DINet_demo_mel.pth"
"""For live dubbing: Whisper features need the whole recording."""
SHIPPED_MOUTH_READER = _SHIPPED / "demo" / "mouth_reader.pth"
EXAMPLE_SOURCE = _SHIPPED / "example" / "astronaut.mp4"
EXAMPLE_AUDIO = _SHIPPED / "example" / "speech.wav"

DUBBED_SUFFIX, FACE_SUFFIX = "_facial_dubbing_add_audio", "_synthetic_face"
"""Appended to the source's name in the names of its results: the dubbed video, the video of the generated faces."""


def default_weights() -> Path:
    """The published weights if they are in ./asserts, else those that come with DINet."""
    return SHIPPED_WEIGHTS if SHIPPED_WEIGHTS.exists() and not PUBLISHED_WEIGHTS.exists() else PUBLISHED_WEIGHTS


def frame_rate(value: str | float | Fraction) -> Fraction:
    """A frame rate such as 25, 29.97 or "30000/1001".

    Raises:
        argparse.ArgumentTypeError: no number, or not between 1 and 240.
    """
    try:
        # Checked first: Fraction("1e100000000") is a number of a hundred million digits.
        if isinstance(value, str) and not re.fullmatch(r"\s*\d{1,9}(\.\d{0,9}|/\d{1,9})?\s*", value):
            raise ValueError
        rate = Fraction(value)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{value!r} is not a frame rate such as 25 or 30000/1001") from None
    if not 1 <= rate <= 240:
        raise argparse.ArgumentTypeError(f"{value} is not between 1 and 240 frames per second")
    return rate.limit_denominator(1001)


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def _crf(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 51:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 (lossless) and 51 (worst)")
    return value


@dataclass(frozen=True)
class LoadSettings:
    """What a `Dubber` is loaded from. Paths may be strings."""

    pretrained_clip_DINet_path: Path | None = option(
        None,
        type=Path,
        help=f"DINet weights; without the option {PUBLISHED_WEIGHTS} if that file exists, else the small weights that "
        "come with DINet",
    )
    deepspeech_model_path: Path = option(
        Path("./asserts/output_graph.pb"),
        type=Path,
        help="DeepSpeech's frozen graph, for weights trained on DeepSpeech features",
    )
    whisper_model: str | None = option(
        None, help="another Whisper tiny model (name or folder) for weights trained on its features; None: the one here"
    )
    landmark_dir: Path | None = option(
        Path("./asserts/detected_landmark"),
        type=folder_or_off,
        metavar="FOLDER|off",
        help="folder where detected landmarks are kept for the next run on the same video; off: keep none",
    )
    mouth_region_size: int | None = option(
        None,
        type=positive_int,
        help="side of the mouth region in pixels: 64, 128 or 256; None: as the weights say, 256 for published ones",
    )
    source_channel: int = option(3, type=positive_int, help="channels of the source image")
    ref_channel: int = option(15, type=positive_int, help="channels of the five reference images")
    audio_channel: int | None = option(
        None, type=positive_int, help="channels of the speech features; None: as the weights say, 29 for published ones"
    )
    audio_feature: str | None = option(
        None, choices=("deepspeech", "mel", "whisper"), help="kind of the speech features; None: as the weights say"
    )
    device: str = option("auto", help="auto, cpu, cuda or cuda:N")
    precision: str = option(
        "auto",
        choices=("auto", "fp32", "bf16", "fp16"),
        help="number format of the network; auto: bf16 on CUDA where the GPU has it, else fp16; fp32 on the CPU",
    )
    threads: int | None = option(
        None,
        type=positive_int,
        help="frames that the network computes at the same time on the CPU, each by one thread; None: the number of "
        "cores, or OMP_NUM_THREADS",
    )

    def __post_init__(self):
        as_paths(self, "pretrained_clip_DINet_path", "deepspeech_model_path", "landmark_dir")
        check_choices(self)


def _minutes(text: str) -> float:
    value = float(text)
    if not 0 < value < 10000:
        raise argparse.ArgumentTypeError(f"{text} is not a number of minutes above 0")
    return value


@dataclass(frozen=True)
class FitSettings:
    """Fitting the weights to the source person before dubbing, see dataset.fitting. Paths may be strings."""

    fit: float | None = option(
        None,
        type=_minutes,
        help="first fit the weights to the person of the source video: train for this number of minutes on "
        "its own images and speech; sharper and better moving lips. The result is kept and used again",
    )
    fitted_dir: Path = option(
        Path("./asserts/fitted_weights"), type=Path, help="folder where fitted weights are kept for the next run"
    )

    def __post_init__(self):
        as_paths(self, "fitted_dir")


@dataclass(frozen=True)
class DubbingOptions:
    """How to dub."""

    face: int | None = option(
        None, type=int, help="face_id of the face to dub, where there are several; None: the largest"
    )
    blend: str = option(
        "face",
        choices=("face", "feather", "hard"),
        help="face: only the lower face changes and its skin keeps the source's detail; where the generated lips are "
        "poor, and in portraits, the source's own lips are moved to their opening and width; feather: the whole mouth "
        "region, fading out round it, colour matched; hard: the whole mouth region with hard edges, as published",
    )
    silence: str = option(
        "close",
        choices=("close", "keep"),
        help="close: in pauses of the speech over 0.3 s the lips close smoothly, with --blend face; keep: they stay "
        "as the network makes them",
    )
    crop_radius: str = option(
        "shot",
        choices=("shot", "window"),
        help="crop size constant over a shot, or per five frames as published",
    )
    reference_selection: str = option(
        "spread",
        choices=("spread", "random"),
        help="spread: sharp frames from closed to open mouth; random: as published, drawn with --seed",
    )
    reference_frames: str | None = option(
        None, help="up to five frames (numbers from 0) to use as references, such as 3,40,81"
    )
    seed: int = option(456, type=_seed, help="seed of --reference_selection random")
    fps: Fraction | None = option(None, type=frame_rate, help="frame rate of the result; None: the source's")
    batch_size: int | None = option(
        None, type=positive_int, help="frames at a time; None: 2 per thread on the CPU, 16 on CUDA"
    )
    crf: int = option(18, type=_crf, help="H.264 quality, lower is better")
    preset: str = option("fast", help="encoder preset: speed against file size")
    video_codec: str = option("libx264", help="encoder, such as libx264 or h264_nvenc")

    def __post_init__(self):
        if self.fps is not None:
            object.__setattr__(self, "fps", frame_rate(self.fps))
        check_choices(self)


@dataclass(frozen=True)
class DubbingJob:
    """One video to dub. Paths may be strings.

    `landmark_path` None detects landmarks; `face_video` None writes no video of the faces. `source_option` and
    `audio_option` are the options that error messages name for `source` and `audio`.
    """

    source: Path
    audio: Path
    result: Path
    landmark_path: Path | None = None
    face_video: Path | None = None
    source_option: str = "--source_video_path"
    audio_option: str = "--driving_audio_path"

    def __post_init__(self):
        as_paths(self, "source", "audio", "result", "landmark_path", "face_video")


@dataclass(frozen=True)
class DubbingReport:
    """Result of one dub. `seconds`: busy seconds per stage; stages overlap, so their sum exceeds `total_seconds`."""

    result: Path
    frames: int
    rate: Fraction
    untouched_frames: int
    references: list[int]
    seconds: dict[str, float]
    total_seconds: float

    @property
    def frames_per_second(self) -> float:
        """Output frames per second of the whole dub."""
        return self.frames / max(self.total_seconds, 1e-9)
