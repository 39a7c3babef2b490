"""Options of data_processing.py."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from config.data_folders import data_folder
from config.parser import ScriptParser, positive_int
from utils.media.limits import MediaLimits

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

VIDEO_FOLDER = "split_video_25fps"
_READ = (VIDEO_FOLDER, *(f"{VIDEO_FOLDER}_{name}" for name in ("audio", "landmark_openface", "frame", "crop_face")))
"""What single steps read: the place where one of these is holds the data."""
_SOURCE_OF_FIRST_STEP = {"split_video": "raw_video", "resample_video": "split_video"}

_DESCRIPTION = """\
Prepare training data: from raw talking videos to face crops, speech features and the training json.

Give --all, or single steps; several steps in one call run in order. What is complete is not done again: after an
interruption, start the same command again. One run at a time for one set of folders."""

_EPILOG = """\
Exit status: 0 everything was prepared, 1 some video was skipped (the summary says which and why; single clips without
a usable face do not count), 2 an option or a file that nothing works without is wrong.

On a cluster, start the workers in the project's folder, with the data at the same paths as here:
PYTHONPATH=. dask worker tcp://HOST:8786 --nthreads 1 --nworkers auto"""


def _jpeg_quality(text: str) -> int:
    value = int(text)
    if not 95 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not between 95 and 100: training would learn the artefacts")
    return value


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    pass


class DataProcessingParser(ScriptParser):
    """Options of data_processing.py; those of the published script keep their names and defaults."""

    def __init__(self):
        super().__init__(_DESCRIPTION)
        self._data = data = data_folder(*_READ)
        videos = data / VIDEO_FOLDER
        self.epilog = _EPILOG
        self.formatter_class = _HelpFormatter
        add = self.add_argument_group("steps").add_argument

        def add_step(name: str, text: str) -> None:
            # Without a default the formatter appends none: "(default: False)" would say nothing.
            add(f"--{name}", action="store_true", default=argparse.SUPPRESS, help=text)

        add_step("all", "everything that is missing from --resample_video to --generate_training_json")
        add_step("split_video", "cut raw videos by HDTF's annotations, into --split_video_dir")
        add_step("resample_video", "make videos of any rate 25 fps, into --resampled_video_dir")
        add_step("split_scene", "cut 25 fps videos at scene cuts, into --scene_video_dir")
        add_step("extract_video_frame", "frames as JPEG; may be left out, the crops are then cut from the videos")
        add_step("extract_audio", "sound as wav, 16 kHz mono")
        add_step("extract_deep_speech", "speech features of the wavs: DeepSpeech, unless --audio_feature is given")
        add_step("extract_audio_feature", "speech features of the wavs: mel, unless --audio_feature is given")
        add_step("detect_landmark", "landmarks by the built-in detector; a csv of OpenFace that is there is kept")
        add_step("crop_face", "face crops, one radius a clip")
        add_step("generate_training_json", "the json that training reads")

        add = self.add_argument_group("folders and files").add_argument
        add(
            "--source_video_dir",
            type=Path,
            help=f"videos to start from; None: {videos}, but "
            + ", ".join(
                f"{data / folder} where --{step} is the first step" for step, folder in _SOURCE_OF_FIRST_STEP.items()
            ),
        )
        add(
            "--annotation_path",
            type=Path,
            help="HDTF's annotations, a file or a folder of xx_annotion_time.txt; None: in --source_video_dir",
        )
        add("--split_video_dir", type=Path, default=data / "split_video", help="results of --split_video")
        add("--resampled_video_dir", type=Path, default=videos, help="results of --resample_video")
        add("--scene_video_dir", type=Path, default=data / "split_scene_25fps", help="results of --split_scene")
        add(
            "--openface_landmark_dir",
            type=Path,
            default=data / f"{VIDEO_FOLDER}_landmark_openface",
            help="landmarks, NAME.csv",
        )
        add("--video_frame_dir", type=Path, default=data / f"{VIDEO_FOLDER}_frame", help="frames")
        add("--audio_dir", type=Path, default=data / f"{VIDEO_FOLDER}_audio", help="wavs")
        add(
            "--deep_speech_dir",
            type=Path,
            default=data / f"{VIDEO_FOLDER}_deepspeech",
            help="DeepSpeech features, NAME_deepspeech.txt",
        )
        add(
            "--audio_feature_dir",
            type=Path,
            help=f"features of other kinds, NAME_KIND.npy; None: {videos}_mel or {videos}_whisper",
        )
        add("--crop_face_dir", type=Path, default=data / f"{VIDEO_FOLDER}_crop_face", help="face crops")
        add("--json_path", type=Path, default=data / "training_json.json", help="the training json")
        add(
            "--deep_speech_model",
            type=Path,
            default=Path("./asserts/output_graph.pb"),
            help="DeepSpeech's frozen graph, for DeepSpeech features",
        )
        add("--whisper_model", default="tiny.en", help="Whisper model (name or folder), for whisper features")

        add = self.add_argument_group("what to make").add_argument
        add(
            "--audio_feature",
            choices=("deepspeech", "mel", "whisper"),
            help="kind of the speech features; None: mel, but deepspeech with --extract_deep_speech, and for "
            "--generate_training_json by itself where --deep_speech_dir holds features",
        )
        add("--clip_length", type=positive_int, default=9, help="frames in a clip; SyncNet and clip training need 9")
        add("--jpeg_quality", type=_jpeg_quality, default=95, help="of frames and crops")
        add("--crf", type=int, choices=range(52), metavar="0..51", default=12, help="H.264 quality of cut videos")

        add = self.add_argument_group("how to work").add_argument
        add("--workers", type=positive_int, help="processes; None: one per core")
        add("--dask_scheduler", metavar="ADDRESS", help="work on an existing Dask cluster, such as tcp://host:8786")
        self.add_settings("limits on files that are read", MediaLimits)

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):
        """Parse; adds `steps`, their names in order, and settles what depends on them."""
        options = super().parse_args(args, namespace)
        given = {name for name in (*STEPS, "all", "extract_deep_speech") if getattr(options, name, False)}
        if "all" in given:
            given |= set(STEPS) - set(NOT_IN_ALL)
        if "extract_deep_speech" in given:
            given.add("extract_audio_feature")
            options.audio_feature = options.audio_feature or "deepspeech"
        options.steps = [step for step in STEPS if step in given]
        if not options.steps:
            self.error("nothing to do: give --all or a step such as --crop_face")
        if options.audio_feature is None:
            published = options.steps == ["generate_training_json"] and any(options.deep_speech_dir.glob("*.txt"))
            options.audio_feature = "deepspeech" if published else "mel"
        if options.source_video_dir is None:
            first = "all" if "all" in given and "split_video" not in given else options.steps[0]
            options.source_video_dir = self._data / _SOURCE_OF_FIRST_STEP.get(first, VIDEO_FOLDER)
        if options.audio_feature_dir is None:
            options.audio_feature_dir = self._data / f"{VIDEO_FOLDER}_{options.audio_feature}"
        return options
