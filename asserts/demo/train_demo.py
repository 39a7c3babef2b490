"""Make the weights that come with DINet from a folder of raw videos: python asserts/demo/train_demo.py --videos FOLDER.

Runs the project's own scripts one after the other: data preparation, audio encoder, alignment of speech and lips, mouth
reader, frame stages from coarse to fine, clip stage, average, export. Start the same command again after an
interruption: finished steps are not repeated, and an interrupted training goes on from its last checkpoint.
"""

import argparse
import json
import logging
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger("train_demo")

ROOT = Path(__file__).resolve().parents[2]
PERCEPTUAL_WEIGHTS = Path(__file__).resolve().parent / "vgg16_relu3_1.pth"
EPOCHS, LIP_EPOCHS = 10, 5
"""Epochs of each frame stage and of the clip stage, and of the networks that predict the lips."""
SOME_SKIPPED = 1
"""Exit status of data_processing.py where some videos could not be used."""
CURVES = ("mouth_l1", "lips", "perception", "opening_correlation")


@dataclass(frozen=True)
class Profile:
    """Sizes and lengths of a recipe. Frames are those that a stage trains on, samples those of the lip networks.

    Attributes:
        coarse_mouth, mouth: mouth region in pixels, of the first frame stage and of the others.
        feature_channel: width of the generator.
        batch_size, frames_per_sample: a step of a frame stage trains on their product.
        clip_batch_size: clips of five frames in a step of the clip stage.
        speed: options for speed.
        coarse_frames, fine_frames, lip_frames, final_frames, clip_frames: lengths of the stages.
        encoder_samples, reader_samples: lengths of the trainings of the audio encoder and the mouth reader.
        val_samples, lip_val_samples: samples per report on held-out data, of the stages and of the lip networks.
    """

    coarse_mouth: int
    mouth: int
    feature_channel: int
    batch_size: int
    frames_per_sample: int
    clip_batch_size: int
    speed: tuple[str, ...]
    coarse_frames: int
    fine_frames: int
    lip_frames: int
    final_frames: int
    clip_frames: int
    encoder_samples: int = 60_000
    reader_samples: int = 50_000
    val_samples: int = 64
    lip_val_samples: int = 512


PROFILES = {
    # Two cores over night.
    "cpu": Profile(
        32,
        64,
        128,
        2,
        3,
        1,
        ("--amp", "bf16", "--channels_last", "--cache", "ram"),
        60_000,
        60_000,
        60_000,
        80_000,
        8_000,
    ),
    # One GPU of 24 GB or more, half an hour on an H100 by the arithmetic; not measured.
    "cuda": Profile(
        64, 128, 256, 8, 3, 4, ("--amp", "bf16", "--cache", "device"), 100_000, 100_000, 100_000, 150_000, 20_000
    ),
}


@dataclass(frozen=True)
class Step:
    """A run of one of the project's scripts. `accepted` are exit statuses that count as done."""

    name: str
    script: str
    arguments: tuple[str, ...]
    accepted: tuple[int, ...] = (0,)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--videos", type=Path, required=True, help="folder of raw videos of talking people to train on")
    add("--val_videos", type=Path, help="folder of videos of other people, to report losses on")
    add("--device", choices=tuple(PROFILES), default="cpu", help="cpu: two cores over night; cuda: one GPU")
    add("--mouth_region_size", type=int, help="side of the mouth region; None: 64 on the cpu, 128 on cuda")
    add("--work_dir", type=Path, default=Path("./asserts/demo_training"), help="folder of data and checkpoints")
    add("--result_dir", type=Path, default=Path("./asserts/demo_weights"), help="folder of the weights")
    add("--perceptual_weights", type=Path, default=PERCEPTUAL_WEIGHTS, help="VGG weights of the perception loss")
    add("--length", type=float, default=1.0, help="factor of all trainings' lengths; 2 trains twice as long")
    add("--plan", action="store_true", help="print the commands of the trainings and exit")
    options = parser.parse_args(arguments)
    if not options.plan and not options.videos.is_dir():
        parser.error(f"--videos: {options.videos} is no folder; name the one that your videos are in")
    if not options.length > 0:
        parser.error(f"--length: {options.length} is not above 0")
    return options


def data_steps(options: argparse.Namespace) -> list[Step]:
    """The steps that prepare the data."""
    steps = []
    for name, videos in (("train", options.videos), ("val", options.val_videos)):
        if videos is not None:
            folder = data_folder(options, name)
            arguments = (
                *("--all", "--audio_feature", "whisper", "--source_video_dir", str(videos)),
                *("--resampled_video_dir", str(folder / "video"), "--audio_dir", str(folder / "audio")),
                *("--audio_feature_dir", str(folder / "whisper"), "--openface_landmark_dir", str(folder / "landmarks")),
                *("--crop_face_dir", str(folder / "crops"), "--json_path", str(folder / "training.json")),
            )
            steps.append(Step(f"data_{name}", "data_processing.py", arguments, (0, SOME_SKIPPED)))
    return steps


def training_steps(options: argparse.Namespace, video_count: int) -> list[Step]:
    """The trainings, the average and the export, for a training set of so many videos."""
    trainings = Trainings(options, video_count)
    return [*trainings.lip_networks(), *trainings.frame_stages(), trainings.clip_stage(), *trainings.exports()]


class Trainings:
    """The steps of training_steps. `encoder` and `reader` are the audio encoder and the mouth reader they train."""

    def __init__(self, options: argparse.Namespace, video_count: int):
        self._options, self._video_count = options, video_count
        self._profile = PROFILES[options.device]
        self._mouth = options.mouth_region_size or self._profile.mouth
        self.encoder = self._newest("audio_encoder", "audio_encoder", LIP_EPOCHS)
        self.reader = self._newest("mouth_reader", "mouth_reader", LIP_EPOCHS)
        train = data_folder(options, "train")
        self._unaligned, self._aligned = train / "training.json", train / "aligned.json"
        self._train_landmarks = str(train / "landmarks")
        landmarks = [self._train_landmarks]
        self._common = ["--resume", "--device", options.device]
        if options.val_videos is not None:
            val = data_folder(options, "val")
            self._common += ["--val_data", str(val / "training.json")]
            landmarks.append(str(val / "landmarks"))
        self._lips = ["--openface_landmark_dir", *landmarks, "--hold_out", "0.05"]
        self._lips += ["--val_samples", str(self._profile.lip_val_samples)]
        self._generator = [
            *("--augment", "color", "--augment_audio", "--length_power", "0.5", "--freeze_audio_encoder"),
            *("--still_references", "0.25"),
            *("--D_block_expansion", "16", "--D_max_features", "64", "--clip_grad", "1", *self._profile.speed),
            *("--val_samples", str(self._profile.val_samples)),
        ]
        self._picture = [
            *("--lamb_l1", "3", "--lamb_mouth", "10", "--lip_focus", "4", "--lamb_perception", "5"),
            *("--perception_region", "mouth", "--perceptual_weights", str(options.perceptual_weights)),
        ]
        self._gan = ["--lamb_gan", "0.1", "--lr_dI", "2e-4"]
        self._follow = [
            *("--pretrained_mouth_reader_path", self.reader, "--lamb_lips", "1"),
            *("--pretrained_audio2lip_path", self.encoder, "--lip_amplitude", "1.3"),
        ]

    def lip_networks(self) -> list[Step]:
        """Audio encoder, alignment of speech and lips by a rough one, mouth reader."""
        profile = self._profile
        rough_encoder = self._newest("audio_encoder_rough", "audio_encoder", LIP_EPOCHS)
        align = [
            *("--train_data", str(self._unaligned), "--audio_encoder", rough_encoder),
            *("--json_path", str(self._aligned), "--openface_landmark_dir", self._train_landmarks),
        ]
        reader = [
            *(*self._common, *self._course(profile.reader_samples, 32, LIP_EPOCHS, 3, "mouth_reader"), *self._lips),
            *("--train_data", str(self._aligned), "--augment", "--length_power", "0.5", "--cache", "ram"),
        ]
        return [
            self._audio_encoder("audio_encoder_rough", self._unaligned, profile.encoder_samples // 2),
            Step("align", "asserts/demo/align_speech.py", tuple(align)),
            self._audio_encoder("audio_encoder", self._aligned, profile.encoder_samples),
            Step("mouth_reader", "train_mouth_reader.py", tuple(reader)),
        ]

    def frame_stages(self) -> list[Step]:
        """Coarse; fine; lips that follow any speech; sharp."""
        profile, mouth, picture, follow = self._profile, self._mouth, self._picture, self._follow
        coarse = [
            *("--feature_channel", str(profile.feature_channel), "--pretrained_audio_path", self.encoder),
            *("--lr_g", "5e-4", "--ema", "0.99", "--lamb_gan", "0", "--lamb_perception", "0"),
            *("--lamb_l1", "10", "--lamb_mouth", "10"),
        ]
        fine = [
            *(*self._finer("frame_coarse"), "--lr_g", "3e-4", "--ema", "0.99", *picture, "--lamb_gan", "0"),
            *("--pretrained_mouth_reader_path", self.reader, "--lamb_lips", "0.5"),
        ]
        lips = [*self._finer("frame_fine"), "--freeze_norms", "--lr_g", "2e-4", "--ema", "0.99", *picture]
        lips += ["--lamb_gan", "0", *follow, "--unpaired_audio", "0.5"]
        final = [*self._finer("frame_lips"), "--freeze_norms", "--lr_g", "2e-4", "--ema", "0.99", *picture]
        final += [*self._gan, *follow, "--unpaired_audio", "0.34"]
        return [
            self._frame_stage("frame_coarse", profile.coarse_frames, 0, profile.coarse_mouth, coarse),
            self._frame_stage("frame_fine", profile.fine_frames, 0, mouth, fine),
            self._frame_stage("frame_lips", profile.lip_frames, 0, mouth, lips),
            self._frame_stage("frame_final", profile.final_frames, EPOCHS - 4, mouth, final),
        ]

    def clip_stage(self) -> Step:
        """Clips of five frames."""
        batch_size = self._profile.clip_batch_size
        arguments = [
            *("--train_data", str(self._aligned), *self._common),
            *self._course(self._profile.clip_frames / 5, batch_size, EPOCHS, 6, "clip"),
            *(*self._generator, "--mouth_region_size", str(self._mouth)),
            *("--pretrained_frame_DINet_path", self._newest("frame_final"), "--freeze_norms"),
            *("--lr_g", "1e-4", "--ema", "0.99", "--lamb_syncnet_perception", "0"),
            *(*self._picture, *self._gan, *self._follow, "--unpaired_audio", "0.34"),
        ]
        return Step("clip", "train_DINet_clip.py", tuple(arguments))

    def exports(self) -> list[Step]:
        """The mean of the last frame stage and the clip stage, and the lip networks, as weights without training."""
        result = self._options.result_dir
        average = [
            *("--checkpoint", self._newest("frame_final"), "--average_with", self._newest("clip")),
            *("--shares", "1", "1", "--speech_dir", str(data_folder(self._options, "train") / "audio")),
            *("--result_path", str(result / "DINet_demo.pth")),
        ]
        lip_networks = {"audio_encoder": self.encoder, "mouth_reader": self.reader}
        return [
            Step("average", "export_weights.py", tuple(average)),
            *(
                Step(
                    f"export_{name}",
                    "export_weights.py",
                    ("--checkpoint", path, "--result_path", str(result / f"{name}.pth")),
                )
                for name, path in lip_networks.items()
            ),
        ]

    def _audio_encoder(self, name: str, data: Path, samples: int) -> Step:
        lengths = self._course(samples, 96, LIP_EPOCHS, 3, name)
        arguments = [*self._common, *lengths, "--train_data", str(data), *self._lips]
        # Whisper's features hold much more than the lips: a larger network or a longer training learns the speakers.
        arguments += ["--lr", "3e-4", "--dropout", "0.5", "--weight_decay", "0.2"]
        return Step(name, "train_audio_encoder.py", (*arguments, "--augment_audio", "--length_power", "0.7"))

    def _frame_stage(self, name: str, count: int, decaying: int, size: int, options: list[str]) -> Step:
        """A stage on so many frames, the learning rate falling in the last `decaying` epochs."""
        frames = self._profile.frames_per_sample
        lengths = self._course(count / frames, self._profile.batch_size, EPOCHS, decaying, name)
        arguments = ["--train_data", str(self._aligned), *self._common, *lengths, *self._generator]
        arguments += ["--frames_per_sample", str(frames), "--mouth_region_size", str(size)]
        return Step(name, "train_DINet_frame.py", (*arguments, *options))

    def _course(self, samples: float, batch_size: int, epochs: int, decaying: int, folder: str) -> list[str]:
        """Options of a training's length and of where its checkpoints go."""
        videos = self._video_count
        per_video = math.ceil(samples * self._options.length / (epochs * videos))
        per_video = max(1, per_video, math.ceil(batch_size / videos))
        return [
            *("--batch_size", str(batch_size), "--augment_num", str(per_video)),
            *("--non_decay", str(epochs - decaying), "--decay", str(decaying)),
            *("--checkpoint", "1", "--keep", "2", "--result_path", str(self._options.work_dir / folder)),
        ]

    def _newest(self, folder: str, prefix: str = "netG", epochs: int | None = None) -> str:
        """The checkpoint that a training ends with, after EPOCHS unless told otherwise."""
        return str(self._options.work_dir / folder / f"{prefix}_model_epoch_{epochs or EPOCHS}.pth")

    def _finer(self, folder: str) -> list[str]:
        """Options that start a frame stage from the one before."""
        return ["--coarse2fine", "--coarse_model_path", self._newest(folder)]


def data_folder(options: argparse.Namespace, name: str) -> Path:
    """Where the prepared training data ("train") or validation data ("val") lies."""
    return options.work_dir / f"data_{name}"


def count_videos(options: argparse.Namespace) -> int:
    """Videos of the training json."""
    return len(json.loads((data_folder(options, "train") / "training.json").read_bytes()))


def run_step(step: Step, work_dir: Path) -> float:
    """Run a step unless it is finished; returns its seconds, those of its last run.

    Raises:
        SystemExit: it failed; its own message says why.
    """
    marker = work_dir / f"{step.name}.done"
    if marker.exists():
        logger.info(f"{step.name}: finished before")
        return json.loads(marker.read_text(encoding="utf-8"))["seconds"]
    command = [sys.executable, str(ROOT / step.script), *step.arguments]
    logger.info(f"{step.name}: {' '.join(command)}")
    began = time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    status = subprocess.run(command, check=False, env=environment).returncode
    if status not in step.accepted:
        logger.error(
            f"{step.name}: {step.script} ended with status {status}; mend the cause and start the command again"
        )
        sys.exit(status if status > 0 else 130)
    seconds = time.monotonic() - began
    partial = marker.with_suffix(".partial")
    partial.write_text(json.dumps({"seconds": seconds, "command": command}), encoding="utf-8")
    partial.replace(marker)
    return seconds


def draw_curves(work_dir: Path, names: list[str], path: Path) -> None:
    """Draw what the trainings reported on held-out data, one row of axes a figure of CURVES."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    curves = {name: read_curves(work_dir / name / "log.jsonl") for name in names}
    shown = [
        figure
        for figure in CURVES
        if any((figure, data) in some for some in curves.values() for data in ("val", "held_out"))
    ]
    if not shown:
        return
    picture, axes = pyplot.subplots(1, len(shown), figsize=(4.5 * len(shown), 3.5), squeeze=False, layout="constrained")
    for axis, figure in zip(axes[0], shown, strict=True):
        for name, some in curves.items():
            for data, style in (("val", "-"), ("held_out", ":")):
                if (figure, data) in some:
                    axis.plot(*zip(*some[figure, data], strict=True), style, label=f"{name}, {data}")
        axis.set(title=figure, xlabel="samples")
        axis.legend(fontsize=6)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, dpi=90)
    pyplot.close(picture)


def read_curves(log: Path) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """Figures on held-out data by (figure, data), as (samples trained on, value), from a training log."""
    curves: dict[tuple[str, str], list[tuple[int, float]]] = {}
    if not log.exists():
        return curves
    samples = 0
    for line in log.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        samples = record.get("samples", samples)
        if record["kind"] == "validation":
            for figure in CURVES:
                if figure in record:
                    curves.setdefault((figure, record["data"]), []).append((samples, record[figure]))
    return curves


def commit() -> str:
    """The commit of the project, where git can tell it."""
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def main() -> None:
    """Run the recipe."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    options = parse_arguments()
    if options.plan:
        for step in (*data_steps(options), *training_steps(options, 100)):
            print(f"python {step.script} {' '.join(step.arguments)}")
        return
    options.work_dir.mkdir(parents=True, exist_ok=True)
    options.result_dir.mkdir(parents=True, exist_ok=True)
    seconds = {step.name: run_step(step, options.work_dir) for step in data_steps(options)}
    trainings = training_steps(options, count_videos(options))
    seconds |= {step.name: run_step(step, options.work_dir) for step in trainings}
    draw_curves(options.work_dir, [step.name for step in trainings], options.result_dir / "learning_curves.png")
    made = {
        "command": sys.argv[1:],
        "commit": commit(),
        "seconds": {name: round(value) for name, value in seconds.items()},
    }
    (options.result_dir / "made_by.json").write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    logger.info(f"weights in {options.result_dir}, after {sum(seconds.values()) / 3600:.1f} hours")


if __name__ == "__main__":
    main()
