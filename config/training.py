"""Option parsers of the training scripts.

The type, default and help of an option are defined in its settings dataclass (dataset/settings.py,
utils/training/settings.py). This file says which script has which settings, and which defaults differ by script.
"""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from config.data_folders import default_landmark_dir, default_training_json
from config.parser import ScriptParser, option_names
from dataset.settings import LoadingSettings
from utils.training.settings import (
    CHECKPOINTS,
    DATA,
    LOSSES,
    OPTIMISATION,
    PUBLISHED,
    SMALL_DATA,
    SPEED,
    ClipStageSettings,
    CoarseSettings,
    DINetSettings,
    FrameStageSettings,
    LipRegressionSettings,
    LipSupervisionSettings,
    LossWeights,
    NetworkSettings,
    OptimisationSettings,
    SyncNetSettings,
    TrainingSettings,
)

_RESULTS = Path("./asserts/training_model_weight")


class TrainingParser(ScriptParser):
    """Options of every training script; those of the published scripts keep their names and defaults.

    Args:
        description: of the script.
        result_name: name of the result folder.
        hold_out: default of --hold_out.
        without: options of LoadingSettings and OptimisationSettings that the script does not have.
    """

    def __init__(self, description: str, result_name: str, hold_out: float = 0.0, without: Sequence[str] = ()):
        super().__init__(description, "%(prog)s [option ...] [@FILE ...]", fromfile_prefix_chars="@")
        self.epilog = "@FILE takes further options from a file; a # begins a comment there."
        for title in (PUBLISHED, DATA, OPTIMISATION, LOSSES, CHECKPOINTS, SPEED, SMALL_DATA):
            self.add_argument_group(title)
        self.without = set(without)
        self._add(LoadingSettings, DATA, train_data=default_training_json(), hold_out=hold_out)
        self._add(TrainingSettings, CHECKPOINTS, result_path=_RESULTS / result_name)
        self._add(OptimisationSettings, OPTIMISATION)
        self.add_removed("prefetch", "loader processes always work 4 batches ahead", type=int)

    def _add(self, settings: type, title: str, **changed: object) -> None:
        names = [name for name in option_names(settings) if name not in self.without]
        self.add_settings(title, settings, names, **changed)

    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        """Split a line of an @FILE as a shell does; see argparse."""
        return shlex.split(arg_line, comments=True)


class _DINetTrainingParser(TrainingParser):
    """What the frame stage and the clip stage have in common."""

    def __init__(self, description: str, result_name: str, without: Sequence[str] = ()):
        super().__init__(description, result_name, without=("weight_decay", *without))
        self._add(NetworkSettings, SMALL_DATA)
        self._add(DINetSettings, OPTIMISATION)
        self._add(LossWeights, LOSSES)
        self._add(LipSupervisionSettings, SMALL_DATA)

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):
        """Parse; see argparse."""
        options = super().parse_args(args, namespace)
        weights = {name: value for name, value in vars(options).items() if name.startswith("lamb_")}
        if options.lip_supervision is None and options.pretrained_mouth_reader_path is None:
            del weights["lamb_lips"]
        if not any(weights.values()):
            self.error("all losses have weight 0; set --lamb_l1 or --lamb_mouth, or give --lip_supervision FOLDER")
        return options


class FrameTrainingParser(_DINetTrainingParser):
    """Options of train_DINet_frame.py."""

    def __init__(self):
        super().__init__(
            "Train DINet on single frames, from coarse to fine.", "frame_training", without=["lamb_syncnet_perception"]
        )
        self._add(CoarseSettings, PUBLISHED)
        self._add(FrameStageSettings, SMALL_DATA)


class ClipTrainingParser(_DINetTrainingParser):
    """Options of train_DINet_clip.py."""

    def __init__(self):
        super().__init__("Train DINet on clips of five frames, with a sync loss.", "clip_training")
        self._add(ClipStageSettings, PUBLISHED)


class SyncNetTrainingParser(TrainingParser):
    """Options of train_syncnet.py."""

    def __init__(self):
        super().__init__(
            "Train SyncNet, which scores whether a mouth and an audio window are in sync.",
            "syncnet_training",
            hold_out=0.1,
            without=["ema"],
        )
        self._add(CoarseSettings, PUBLISHED)
        self._add(SyncNetSettings, OPTIMISATION)


class AudioEncoderTrainingParser(TrainingParser):
    """Options of train_audio_encoder.py."""

    def __init__(self):
        super().__init__(
            "Train DINet's audio encoder to predict lip landmarks, as a start for the frame stage (small data).",
            "audio_encoder_training",
            hold_out=0.1,
            without=["ema", "augment", "cache", "mouth_region_size"],
        )
        self._add(LipRegressionSettings, OPTIMISATION, openface_landmark_dir=[default_landmark_dir()])
        self.set_defaults(weight_decay=0.05)
        for name in ("augment", "cache", "mouth_region_size"):
            self.add_removed(name, "this training sees no images", nargs="?")


class MouthReaderTrainingParser(TrainingParser):
    """Options of train_mouth_reader.py."""

    def __init__(self):
        super().__init__(
            "Train a network that predicts lip opening and width from a mouth image, for the lip loss of the frame and "
            "clip stages (small data).",
            "mouth_reader_training",
            hold_out=0.1,
            without=["ema", "augment_audio", "audio_channel"],
        )
        self._add(LipRegressionSettings, OPTIMISATION, openface_landmark_dir=[default_landmark_dir()])
        self.set_defaults(weight_decay=0.05)
