"""Options of evaluate.py."""

from dataclasses import dataclass
from pathlib import Path

from config.parser import ScriptParser, option
from utils.dubbing.settings import DubbingOptions, LoadSettings
from utils.media.limits import MediaLimits
from utils.settings import LSE_WEIGHTS_URL, worker_count

MODEL_OPTIONS = ("deepspeech_model_path", "whisper_model", "device", "precision", "threads", "landmark_dir")
"""Fields of LoadSettings that are options of evaluate.py."""


@dataclass(frozen=True)
class VideoSettings:
    """Dubbed videos to score against true ones."""

    generated: Path | None = option(
        None, type=Path, help="dubbed video, or a folder of them, NAME.mp4 or NAME_facial_dubbing_add_audio.mp4"
    )
    reference: Path | None = option(
        None, type=Path, help="true video, or a folder with a video NAME for each dubbed one"
    )
    cross_audio: bool = option(
        False, old=("other_words",), help="the dubs use different audio than the true videos (skip image metrics)"
    )


@dataclass(frozen=True)
class ClipSettings:
    """Clips to dub with given weights, and then to score."""

    checkpoint: Path | None = option(
        None,
        type=Path,
        also=("pretrained_clip_DINet_path",),
        help="DINet weights: dub --clips with their own audio and with other audio, and score the dubs",
    )
    clips: list[Path] | None = option(
        None, type=Path, nargs="+", help="videos with sound, folders of them, or text files with one path per line"
    )
    driving_audio: list[Path] = option(
        [],
        type=Path,
        nargs="+",
        help="audio for the cross-audio dubs of --clips, used in turn; without it each clip gets the next clip's audio",
    )


@dataclass(frozen=True)
class ScoringSettings:
    """How to score, and where the results go."""

    result_dir: Path = option(Path("./asserts/evaluation_result"), type=Path, help="folder of the results")
    baselines: bool = option(
        False, help="also score trivial baselines: the untouched source, a pasted reference and the mean of references"
    )
    syncnet_path: Path | None = option(
        None, type=Path, help="SyncNet weights (train_syncnet.py) for the columns sync_confidence and sync_offset"
    )
    lse_syncnet_path: Path | None = option(
        None, type=Path, help=f"syncnet_v2.model of Chung and Zisserman for LSE-D and LSE-C: {LSE_WEIGHTS_URL}"
    )
    workers: int | None = option(None, type=worker_count, help="processes that detect landmarks; None: one per core")


class EvaluationParser(ScriptParser):
    """Options of evaluate.py: dubbed videos against true ones, or a checkpoint on a list of clips."""

    def __init__(self):
        super().__init__("Score dubbed videos against true ones, or DINet weights on clips.")
        self.add_settings("dubbed videos", VideoSettings)
        self.add_settings("weights and clips", ClipSettings)
        self.add_settings("dubbing of the clips", DubbingOptions, ("batch_size",))
        self.add_settings("models", LoadSettings, MODEL_OPTIONS)
        self.add_settings("scoring", ScoringSettings)
        self.add_settings("limits on files that are read", MediaLimits)
