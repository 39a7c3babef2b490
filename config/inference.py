"""Options of inference.py."""

import argparse
from fractions import Fraction
from pathlib import Path

from config.parser import ScriptParser, positive_int

PUBLISHED_WEIGHTS = Path("./asserts/clip_training_DINet_256mouth.pth")
_SHIPPED = Path(__file__).resolve().parent.parent / "asserts"
SHIPPED_WEIGHTS = _SHIPPED / "demo" / "DINet_demo.pth"
EXAMPLE_SOURCE = _SHIPPED / "example" / "astronaut.mp4"
EXAMPLE_AUDIO = _SHIPPED / "example" / "speech.wav"


def default_weights() -> Path:
    """The published weights where they are there, else those that ship."""
    return SHIPPED_WEIGHTS if SHIPPED_WEIGHTS.exists() and not PUBLISHED_WEIGHTS.exists() else PUBLISHED_WEIGHTS


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def _frame_rate(text: str) -> Fraction:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a frame rate such as 25 or 30000/1001") from None
    if not 1 <= rate <= 240:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and 240 frames a second")
    return rate.limit_denominator(1001)


def _crf(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 51:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 (lossless) and 51 (worst)")
    return value


class InferenceParser(ScriptParser):
    """Options of inference.py; those of the published script keep their names and defaults."""

    def __init__(self):
        super().__init__(
            "Dub a video: make its mouth move to other speech. Without options, the example that comes with DINet."
        )
        files = self.add_argument_group("files")
        add = files.add_argument
        add("--source_video_path", type=Path, help="video (or picture) of someone's face")
        add(
            "--source_openface_landmark_path",
            type=Path,
            help="OpenFace csv of the source video; without it the landmarks are detected",
        )
        add("--driving_audio_path", type=Path, help="speech: an audio file, or a video with sound")
        add(
            "--jobs",
            type=Path,
            help="many videos in one run, in place of the three options before: a csv with the columns source, audio "
            "and, if wanted, result and landmarks, or lines of JSON with these keys",
        )
        add("--resume", action="store_true", help="with --jobs: what has its result already is not dubbed again")
        add(
            "--pretrained_clip_DINet_path",
            type=Path,
            default=default_weights(),
            help=f"DINet weights: {PUBLISHED_WEIGHTS} where that is there, else the small ones that come with DINet",
        )
        add(
            "--deepspeech_model_path",
            type=Path,
            default=Path("./asserts/output_graph.pb"),
            help="DeepSpeech's frozen graph, for weights trained on DeepSpeech features",
        )
        add("--whisper_model", default="tiny.en", help="Whisper model (name or folder), for weights trained on it")
        add("--res_video_dir", type=Path, default=Path("./asserts/inference_result"), help="folder of the results")
        add("--save_face_video", action="store_true", help="also write the generated faces, NAME_synthetic_face.mp4")
        add(
            "--landmark_dir",
            type=Path,
            default=Path("./asserts/detected_landmark"),
            help="folder where detected landmarks are kept for the next run on the same video",
        )

        network = self.add_argument_group("network (None: as the weights say; published weights: 256, 15, 29)")
        add = network.add_argument
        add("--mouth_region_size", type=positive_int, help="side of the mouth region in pixels: 64, 128 or 256")
        add("--source_channel", type=positive_int, default=3, help="channels of the source picture")
        add("--ref_channel", type=positive_int, default=15, help="channels of the five reference pictures")
        add("--audio_channel", type=positive_int, help="channels of the speech features")
        add("--audio_feature", choices=("deepspeech", "mel", "whisper"), help="kind of the speech features")
        add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
        add(
            "--precision",
            choices=("auto", "fp32", "bf16", "fp16"),
            default="auto",
            help="number format of the network; auto: bf16 on CUDA where the GPU has it, else fp16; fp32 on the CPU",
        )
        add("--batch_size", type=positive_int, help="frames at a time; None: 2 on the CPU, 16 on CUDA")

        look = self.add_argument_group("result")
        add = look.add_argument
        add("--face", type=int, help="face_id of the face to dub, where there are several; None: the largest")
        add(
            "--blend",
            choices=("feather", "hard"),
            default="feather",
            help="feather: only the mouth region, fading out round it, colour matched; hard: as published",
        )
        add(
            "--crop_radius",
            choices=("shot", "window"),
            default="shot",
            help="crop size constant over a shot, or per five frames as published",
        )
        add(
            "--reference_selection",
            choices=("spread", "random"),
            default="spread",
            help="spread: sharp frames from closed to open mouth; random: as published, drawn with --seed",
        )
        add("--reference_frames", help="up to five frames (numbers from 0) to use as references, such as 3,40,81")
        add("--seed", type=_seed, default=456, help="seed of --reference_selection random")
        add("--fps", type=_frame_rate, help="frame rate of the result; None: the source's")
        add("--crf", type=_crf, default=18, help="H.264 quality, lower is better")
        add("--preset", default="fast", help="encoder preset: speed against file size")
        add("--video_codec", default="libx264", help="encoder, such as libx264 or h264_nvenc")
