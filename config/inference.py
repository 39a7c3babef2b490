"""Options of inference.py."""

from dataclasses import dataclass
from pathlib import Path

from config.parser import ScriptParser, option
from utils.dubbing.settings import DubbingOptions, FitSettings, LoadSettings, default_weights
from utils.media.limits import MediaLimits

MODEL_FILES = ("pretrained_clip_DINet_path", "deepspeech_model_path", "whisper_model", "landmark_dir")
NETWORK_OPTIONS = (
    "mouth_region_size",
    "source_channel",
    "ref_channel",
    "audio_channel",
    "audio_feature",
    "device",
    "precision",
    "threads",
)


@dataclass(frozen=True)
class RunSettings:
    """What inference.py dubs, and where the results go."""

    source_video_path: Path | None = option(None, type=Path, help="video or still image of a face")
    source_openface_landmark_path: Path | None = option(
        None, type=Path, help="OpenFace csv of the source video; without it the landmarks are detected"
    )
    driving_audio_path: Path | None = option(None, type=Path, help="speech: an audio file, or a video with sound")
    jobs: Path | None = option(
        None,
        type=Path,
        help="many videos in one run, in place of the options for a single video: a csv with the columns source, audio "
        "and, if wanted, result and landmarks, or lines of JSON with these keys; paths are relative to its folder",
    )
    resume: bool = option(False, help="with --jobs: skip jobs whose result exists")
    res_video_dir: Path = option(Path("./asserts/inference_result"), type=Path, help="folder of the results")
    save_face_video: bool = option(False, help="also write the generated faces, NAME_synthetic_face.mp4")


class InferenceParser(ScriptParser):
    """Options of inference.py; those of the published script keep their names and defaults."""

    def __init__(self):
        super().__init__(
            "Dub a video: make its mouth move to other speech. Without options, the example that comes with DINet."
        )
        self.add_settings("files", RunSettings)
        self.add_settings("weights and models", LoadSettings, MODEL_FILES, pretrained_clip_DINet_path=default_weights())
        self.add_settings("fitting to a person", FitSettings)
        self.add_settings("network and device", LoadSettings, NETWORK_OPTIONS)
        self.add_settings("result", DubbingOptions)
        self.add_settings("limits on files that are read", MediaLimits)
