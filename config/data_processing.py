"""Options of data_processing.py."""

import argparse
from dataclasses import dataclass, fields, replace
from pathlib import Path

from config.data_folders import data_folder
from config.parser import ScriptParser, option
from utils.data_processing.settings import DATA_FOLDER, VIDEO_FOLDER, DataSettings
from utils.media.limits import MediaLimits
from utils.settings import worker_count

STEPS = (
    "split_video",
    "resample_video",
    "split_scene",
    "extract_video_frame",
    "extract_audio",
    "extract_audio_feature",
    "detect_landmark",
    "crop_face",
    "generate_training_json",
)
"""All steps in the order in which they run."""
NOT_IN_ALL = ("split_video", "split_scene", "extract_video_frame")
"""Steps that --all leaves out unless their own flag is given."""

_READ = (VIDEO_FOLDER, *(f"{VIDEO_FOLDER}_{name}" for name in ("audio", "landmark_openface", "frame", "crop_face")))
"""What single steps read: the place where one of these is holds the data."""
_SOURCE_OF_FIRST_STEP = {"split_video": "raw_video", "resample_video": "split_video"}

_DESCRIPTION = """\
Prepare training data: from raw talking videos to face crops, speech features and the training json.

Give --all, or single steps; several steps in one call run in order. Complete results are kept: after an interruption,
start the same command again. Run one command at a time per set of folders."""

_EPILOG = """\
Exit status: 0 everything was prepared, 1 some video was skipped (the summary says which and why; single clips without
a usable face do not count), 2 an option or a required file is wrong.

On a cluster, start the workers in the project's folder, with the data at the same paths as here:
PYTHONPATH=. dask worker tcp://HOST:8786 --nthreads 1 --nworkers auto"""


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.const is True else super()._get_help_string(action)  # flags are off by default


@dataclass(frozen=True)
class StepSettings:
    """Which steps to run."""

    all: bool = option(False, help="everything that is missing, from --resample_video to --generate_training_json")
    split_video: bool = option(False, help="cut raw videos by HDTF's annotations, into --split_video_dir")
    resample_video: bool = option(False, help="resample videos of any rate to 25 fps, into --resampled_video_dir")
    split_scene: bool = option(False, help="cut 25 fps videos at scene cuts, into --scene_video_dir")
    extract_video_frame: bool = option(
        False, help="write frames as JPEG; optional, as face crops can be cut from the videos too"
    )
    extract_audio: bool = option(False, help="write the audio as wav, 16 kHz mono")
    extract_deep_speech: bool = option(
        False, help="compute speech features of the wavs: DeepSpeech, unless --audio_feature is given"
    )
    extract_audio_feature: bool = option(
        False, help="compute speech features of the wavs: mel, unless --audio_feature is given"
    )
    detect_landmark: bool = option(False, help="detect landmarks; an existing csv of OpenFace is kept")
    crop_face: bool = option(False, help="cut the face crops, with one crop radius per clip")
    generate_training_json: bool = option(False, help="write the json that training reads")

    @property
    def names(self) -> list[str]:
        """The steps to run, in their order."""
        given = {name for name in STEPS if getattr(self, name)}
        if self.all:
            given |= set(STEPS) - set(NOT_IN_ALL)
        if self.extract_deep_speech:
            given.add("extract_audio_feature")
        return [step for step in STEPS if step in given]

    def complete(self, data: DataSettings) -> DataSettings:
        """The settings with the kind of speech features, and their folder, filled in where no option names them.

        The kind is DeepSpeech where the published steps use it, else mel. The published command
        `--generate_training_json` names no kind: it takes DeepSpeech if there are such features.
        """
        kind = data.audio_feature
        if kind is None:
            only_json = self.names == ["generate_training_json"]
            published = self.extract_deep_speech or (only_json and any(data.deep_speech_dir.glob("*.txt")))
            kind = "deepspeech" if published else "mel"
        folder = data.audio_feature_dir or default_data_folder() / f"{VIDEO_FOLDER}_{kind}"
        return replace(data, audio_feature=kind, audio_feature_dir=folder)


def default_data_folder() -> Path:
    """Where the training data lies if no option says so: see config.data_folders."""
    return data_folder(*_READ)


def _found_defaults(settings: type) -> dict[str, Path]:
    """Defaults of a settings dataclass that lie in DATA_FOLDER, where the training data lies instead."""
    defaults = {field.name: field.default for field in fields(settings)}
    return {
        name: default_data_folder() / path.relative_to(DATA_FOLDER)
        for name, path in defaults.items()
        if isinstance(path, Path) and path.is_relative_to(DATA_FOLDER)
    }


@dataclass(frozen=True)
class SourceSettings:
    """What the preparation starts from, and the json that it ends with."""

    source_video_dir: Path | None = option(
        None,
        type=Path,
        help=f"folder of the videos to start from; None: {VIDEO_FOLDER} in {DATA_FOLDER} or {DATA_FOLDER.parent}; "
        + ", ".join(f"{folder} if --{step} is the first step" for step, folder in _SOURCE_OF_FIRST_STEP.items()),
    )
    annotation_path: Path | None = option(
        None,
        type=Path,
        help="HDTF's annotations, a file or a folder of xx_annotion_time.txt; None: in --source_video_dir",
    )
    json_path: Path = option(DATA_FOLDER / "training_json.json", type=Path, help="the training json")

    def video_dir(self, steps: StepSettings) -> Path:
        """Folder of the videos that the first step works on."""
        if self.source_video_dir is not None:
            return self.source_video_dir
        first = "all" if steps.all and not steps.split_video else steps.names[0]
        return default_data_folder() / _SOURCE_OF_FIRST_STEP.get(first, VIDEO_FOLDER)


@dataclass(frozen=True)
class WorkSettings:
    """Where the work is done."""

    workers: int | None = option(None, type=worker_count, help="processes; None: one per core")
    dask_scheduler: str | None = option(
        None, metavar="ADDRESS", help="work on an existing Dask cluster, such as tcp://host:8786"
    )


class DataProcessingParser(ScriptParser):
    """Options of data_processing.py; those of the published script keep their names and defaults."""

    def __init__(self):
        super().__init__(_DESCRIPTION)
        self.epilog = _EPILOG
        self.formatter_class = _HelpFormatter
        self.add_settings("steps", StepSettings)
        self.add_settings("source and json", SourceSettings, **_found_defaults(SourceSettings))
        self.add_settings("folders and parameters", DataSettings, **_found_defaults(DataSettings))
        self.add_settings("work", WorkSettings)
        self.add_settings("limits on files that are read", MediaLimits)
