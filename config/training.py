"""Options of the training scripts."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from config.data_folders import default_landmark_dir, default_training_json
from config.parser import ScriptParser, positive_int

_RESULTS = Path("./asserts/training_model_weight")


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def _weight(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 on")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _mouth_size(text: str) -> int:
    value = positive_int(text)
    if value % 32:
        raise argparse.ArgumentTypeError(f"{text} is not a multiple of 32, so that the networks could halve the crop")
    return value


def _feature_channel(text: str) -> int:
    value = positive_int(text)
    if value % 4:
        raise argparse.ArgumentTypeError(f"{text} is not a multiple of 4, so that it could be halved twice")
    return value


class TrainingParser(ScriptParser):
    """Options of every training script; those of the published scripts keep their names and defaults."""

    hold_out = 0.0
    hears = True
    """Whether speech is trained on."""

    def __init__(self, description: str, result_name: str):
        super().__init__(description, fromfile_prefix_chars="@")
        self.epilog = "@FILE takes further options from a file; a # begins a comment there."
        self._add_data_options()
        self._add_network_options()
        self._add_course_options(_RESULTS / result_name)
        self._add_speed_options()

    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        """Split a line of an @FILE as a shell does; see argparse."""
        return shlex.split(arg_line, comments=True)

    def _add_data_options(self) -> None:
        add = self.add_argument_group("data").add_argument
        add(
            "--train_data",
            type=Path,
            default=default_training_json(),  # in ./asserts/training_data or, by the published document, in ./asserts
            help="training json, made with data_processing.py --generate_training_json",
        )
        add("--val_data", type=Path, help="training json of held-out videos to report losses on, every epoch")
        add(
            "--hold_out",
            type=_share,
            default=self.hold_out,
            help="share of every video's clips, its last ones, kept from training and reported on, every epoch",
        )
        add("--val_samples", type=positive_int, default=64, help="samples that each report on held-out data takes")
        add("--augment_num", type=positive_int, default=32, help="how often an epoch takes each video")
        add(
            "--length_power",
            type=_weight,
            default=0,
            help="draw a video of n clips with a probability in proportion to n to this power: 0.5 draws long videos "
            "more often than short ones, 0 all equally often (published)",
        )
        add("--batch_size", type=positive_int, default=24, help="samples a step, over all processes together")
        add(
            "--augment",
            choices=("none", "look", "all"),
            nargs="?",
            default="none",
            const="all",
            help="flip and recolour the pictures (look), and slightly move them (all, or no word): moving small crops "
            "blurs them (not published)",
        )
        if self.hears:
            add(
                "--augment_audio",
                action="store_true",
                help="add noise to the speech features and blank some of them (not published)",
            )
        add(
            "--cache",
            choices=("none", "ram", "device"),
            default="none",
            help="keep all decoded crops in memory, of the machine or of the device: for sets that fit",
        )
        add("--num_workers", type=_count, help="loader processes; None: 1 on the CPU, up to 8 on CUDA, 0 with a cache")
        add("--prefetch", type=positive_int, default=4, help="batches that each loader process works ahead")

    def _add_network_options(self) -> None:
        add = self.add_argument_group("network").add_argument
        add("--mouth_region_size", type=_mouth_size, default=64, help="side of the mouth region in pixels")
        if self.hears:
            add(
                "--audio_channel",
                type=positive_int,
                help="channels of the speech features; None: those of the data",
            )

    def _add_course_options(self, result_path: Path) -> None:
        add = self.add_argument_group("course of the training").add_argument
        add("--result_path", type=Path, default=result_path, help="folder of checkpoints, logs and pictures")
        add("--resume", action="store_true", help="continue from the newest checkpoint in --result_path")
        add("--seed", type=_count, default=456, help="seed of the weights and of the order of the data")
        add("--start_epoch", type=positive_int, default=1, help="number of the first epoch")
        add("--non_decay", type=_count, default=200, help="epochs at full learning rate")
        add("--decay", type=_count, default=200, help="epochs after them, over which it falls to zero")
        add("--max_steps", type=positive_int, help="stop after so many steps, those before --resume counted in")
        add("--checkpoint", type=positive_int, default=2, help="epochs between checkpoints")
        add("--checkpoint_steps", type=positive_int, help="steps between further checkpoints inside an epoch")
        add("--keep", type=_count, default=0, help="newest checkpoints to keep; 0: all")
        add("--clip_grad", type=_weight, default=0, help="largest norm of a network's gradient; 0: any")
        add("--log_steps", type=positive_int, default=10, help="steps between lines of the log")
        add("--tensorboard", action="store_true", help="log for TensorBoard, too (needs the package tensorboard)")

    def _add_lip_options(self, title: str, dropped: str) -> None:
        add = self.add_argument_group(title).add_argument
        add(
            "--openface_landmark_dir",
            type=Path,
            nargs="+",
            default=[default_landmark_dir()],
            help="folders of the videos' landmarks, NAME.csv",
        )
        add("--lr", type=_weight, default=1e-3, help="learning rate")
        add("--weight_decay", type=_weight, default=0.05, help="decoupled weight decay")
        add("--dropout", type=_share, default=0.3, help=f"share of the {dropped} left out in training")

    def _add_coarse_options(self) -> None:
        add = self.add_argument_group("from coarse to fine").add_argument
        add("--coarse2fine", action="store_true", help="start from weights trained at a smaller mouth region")
        add("--coarse_model_path", type=Path, help="those weights")

    def _add_speed_options(self) -> None:
        add = self.add_argument_group("speed").add_argument
        add("--device", default="auto", help="auto, cpu, cuda or cuda:N; with torchrun each process takes its own GPU")
        add("--amp", choices=("off", "bf16", "fp16"), default="off", help="mixed precision; off: fp32, as published")
        add(
            "--channels_last",
            action=argparse.BooleanOptionalAction,
            help="memory layout of pictures and weights; None: channels last on CUDA",
        )
        add("--compile", action="store_true", help="compile the networks with torch.compile")


class _DINetTrainingParser(TrainingParser):
    """What the frame stage and the clip stage share."""

    def __init__(self, description: str, result_name: str):
        super().__init__(description, result_name)
        add = self.add_argument_group("DINet").add_argument
        add("--source_channel", type=positive_int, default=3, help="channels of the source picture")
        add("--ref_channel", type=positive_int, default=15, help="channels of the five reference pictures")
        add(
            "--feature_channel",
            type=_feature_channel,
            help="channels of the generator's feature maps, 256 as published, fewer for a smaller and faster one; "
            "None: those of the weights that the training starts from, else 256",
        )
        add("--D_num_blocks", type=positive_int, default=4, help="blocks of a discriminator")
        add("--D_block_expansion", type=positive_int, default=64, help="width of a discriminator's first block")
        add("--D_max_features", type=positive_int, default=256, help="largest width of a discriminator")
        add(
            "--freeze_audio_encoder",
            action="store_true",
            help="leave the generator's audio encoder as it is: on little data it else forgets what "
            "--pretrained_audio_path has taught it (not published)",
        )
        add(
            "--freeze_norms",
            action="store_true",
            help="normalise by the statistics of the weights that the training starts from, not of each batch: "
            "for batches of a few samples (not published)",
        )
        add("--lr_g", type=_weight, default=1e-4, help="learning rate of the generator")
        add("--lr_dI", type=_weight, default=1e-4, help="learning rate of the discriminators")
        add("--lamb_perception", type=_weight, default=10, help="weight of the perception loss")
        add("--lamb_gan", type=_weight, default=1, help="weight of the discriminators' judgement; 0: none are trained")
        add("--lamb_l1", type=_weight, default=0, help="weight of an L1 loss in the whole picture (not published)")
        add("--lamb_mouth", type=_weight, default=0, help="weight of an L1 loss in the mouth region (not published)")
        add(
            "--lip_focus",
            type=_weight,
            default=1,
            help="weight of an error on the lips in the loss of --lamb_mouth, that of an error on skin far from them "
            "being 1 (not published)",
        )
        add(
            "--perception_region",
            choices=("picture", "mouth"),
            default="picture",
            help="what the perception loss compares: the whole picture as published, or the mouth region alone, which "
            "costs less than half as much",
        )
        add(
            "--pretrained_mouth_reader_path",
            type=Path,
            help="mouth reader of train_mouth_reader.py: the lips' opening and width, read off the generated mouths, "
            "are then trained to be the true ones, else little data teaches no lips (not published)",
        )
        add("--lamb_lips", type=_weight, default=0.3, help="weight of that loss")
        add(
            "--lip_teacher_path",
            type=Path,
            help="audio encoder of train_audio_encoder.py, which tells how the lips are from the speech, for the two "
            "options that follow (not published)",
        )
        add(
            "--lip_gain",
            type=_weight,
            default=1,
            help="have the lips move so many times as far as the speech tells: trained to be the true ones, they move "
            "too little, as speech does not tell all",
        )
        add(
            "--swap_speech",
            type=_share,
            default=0,
            help="share of a batch (rounded down; of each process's) that hears another sample's speech; the lips' "
            "loss, the discriminators and the sync loss alone judge it",
        )
        add(
            "--perceptual_weights",
            type=Path,
            help="VGG19 or VGG16 weights for the perception loss; None: torchvision's VGG19, fetched once",
        )
        add(
            "--reference_may_repeat_source",
            action="store_true",
            help="draw references from the source's own clip, too, as the published clip stage does",
        )
        add(
            "--ema",
            type=_share,
            default=0,
            help="decay of an average of the generator's weights (0.999, say); 0: none",
        )

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):
        """Parse; see argparse."""
        options = super().parse_args(args, namespace)
        weights = {name: value for name, value in vars(options).items() if name.startswith("lamb_")}
        if options.pretrained_mouth_reader_path is None:
            del weights["lamb_lips"]
        if not any(weights.values()):
            self.error(
                "all losses have weight 0; give --lamb_l1 or --lamb_mouth one, or name --pretrained_mouth_reader_path"
            )
        taught = options.lip_gain != 1 or options.swap_speech
        if taught and (options.lip_teacher_path is None or not weights.get("lamb_lips")):
            self.error(
                "--lip_gain and --swap_speech need --lip_teacher_path and the lips' loss; name an audio encoder of "
                "train_audio_encoder.py, and a mouth reader with --pretrained_mouth_reader_path"
            )
        if options.lip_teacher_path is not None and not taught:
            self.error("--lip_teacher_path does nothing by itself; give --lip_gain or --swap_speech, too")
        return options


class FrameTrainingParser(_DINetTrainingParser):
    """Options of train_DINet_frame.py."""

    def __init__(self):
        super().__init__("Train DINet on single frames, from coarse to fine.", "frame_training")
        self._add_coarse_options()
        add = self.add_argument_group("speech").add_argument
        add("--pretrained_audio_path", type=Path, help="audio encoder of train_audio_encoder.py to start with")
        add(
            "--frames_per_sample",
            type=positive_int,
            default=1,
            help="source frames that share one set of references, whose features are then computed once: a step trains "
            "on --batch_size times as many frames (not published)",
        )


class AudioEncoderTrainingParser(TrainingParser):
    """Options of train_audio_encoder.py."""

    hold_out = 0.1

    def __init__(self):
        super().__init__(
            "Train DINet's audio encoder on lip landmarks, to begin the frame stage with.", "audio_encoder_training"
        )
        self._add_lip_options("audio encoder", "audio code")


class MouthReaderTrainingParser(TrainingParser):
    """Options of train_mouth_reader.py."""

    hold_out = 0.1
    hears = False

    def __init__(self):
        super().__init__(
            "Train a reader of the lips' opening and width, for the lips' loss of the frame and clip stages.",
            "mouth_reader_training",
        )
        self._add_lip_options("mouth reader", "last features")


class ClipTrainingParser(_DINetTrainingParser):
    """Options of train_DINet_clip.py."""

    def __init__(self):
        super().__init__("Train DINet on clips of five frames, with a sync loss.", "clip_training")
        add = self.add_argument_group("clip stage").add_argument
        add("--pretrained_frame_DINet_path", type=Path, help="weights of the frame stage to start from")
        add(
            "--pretrained_syncnet_path",
            type=Path,
            default=Path("./asserts/syncnet_256mouth.pth"),
            help="SyncNet weights, trained at the same mouth region",
        )
        add("--lamb_syncnet_perception", type=_weight, default=0.1, help="weight of the sync loss; 0: no SyncNet")


class SyncNetTrainingParser(TrainingParser):
    """Options of train_syncnet.py."""

    hold_out = 0.1

    def __init__(self):
        super().__init__("Train SyncNet: does a mouth belong to the speech?", "syncnet_training")
        self._add_coarse_options()
        add = self.add_argument_group("SyncNet").add_argument
        add("--lr", type=_weight, default=1e-4, help="learning rate")
        add("--weight_decay", type=_weight, default=0, help="decoupled weight decay")
        add("--negatives", type=positive_int, default=16, help="stretches of other speech for each mouth")
        add(
            "--lamb_contrast",
            type=_weight,
            default=1.0,
            help="weight of telling the own speech from the others by cross entropy; 0: least squares alone",
        )
        add(
            "--openface_landmark_dir",
            type=Path,
            nargs="+",
            help="folders of the videos' landmarks, NAME.csv: the encoders are then shown the lips, too, without which "
            "a small set may never leave chance (not published)",
        )
        add("--lamb_lips", type=_weight, default=3.0, help="weight of that loss")
