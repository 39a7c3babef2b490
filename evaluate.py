"""Score dubbed videos or weights: python evaluate.py --generated DUBBED --reference TRUE."""

import argparse
import itertools
import logging
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from config.evaluate import (
    MODEL_OPTIONS,
    ClipSettings,
    EvaluationParser,
    ScoringSettings,
    VideoSettings,
)
from config.parser import make_settings
from utils.errors import UserError, blame, make_folder, require_file, run_script
from utils.media.limits import limits_of, use_limits
from utils.settings import LSE_WEIGHTS_URL

if TYPE_CHECKING:  # these load libraries: not for --help or a mistyped path
    from utils.evaluation.comparison import Comparison, Scores
    from utils.evaluation.evaluator import Evaluator, MetricModels

logger = logging.getLogger(__name__)

SYNCNET_OPTION, LSE_OPTION = "--syncnet_path", "--lse_syncnet_path"


def check_options(
    videos: VideoSettings, clips: ClipSettings, scoring: ScoringSettings, landmark_dir: Path | None
) -> None:
    """Check that one of the two modes is chosen and complete, that files exist, and make the folders of results.

    Raises:
        UserError: naming the option.
    """
    by_videos, by_weights = (videos.generated, videos.reference), (clips.checkpoint, clips.clips)
    if any(by_videos) == any(by_weights):
        raise UserError("give either --generated and --reference, or --checkpoint and --clips")
    for names, values in (("--generated --reference", by_videos), ("--checkpoint --clips", by_weights)):
        for name, value in zip(names.split(), values, strict=True):
            if any(values) and not value:
                raise UserError(f"{name} is missing; {names.replace(' ', ' and ')} go together")
    if clips.checkpoint:
        require_file(clips.checkpoint, "--checkpoint")
    for path in clips.driving_audio:
        require_file(path, "--driving_audio")
    if scoring.syncnet_path:
        require_file(scoring.syncnet_path, SYNCNET_OPTION, "leave the option out, or train one with train_syncnet.py")
    if scoring.lse_syncnet_path:
        require_file(scoring.lse_syncnet_path, LSE_OPTION, f"download {LSE_WEIGHTS_URL}")
    make_folder(scoring.result_dir, "--result_dir")
    if landmark_dir is None:
        raise UserError(
            "--landmark_dir: off is not possible here, as other processes detect the landmarks; name a folder"
        )
    make_folder(landmark_dir, "--landmark_dir")


def load_models(scoring: ScoringSettings, options: argparse.Namespace) -> tuple["MetricModels", dict[str, str]]:
    """Load the optional metric networks. Also return, by column, what is needed for metrics that cannot be measured.

    Raises:
        UserError: unusable SyncNet weights or device.
    """
    from utils.evaluation.comparison import REGIONS
    from utils.evaluation.evaluator import MetricModels
    from utils.evaluation.lpips_fid import ALEXNET, INCEPTION

    models, missing = MetricModels(), {}
    needs = {
        "lpips": ALEXNET.missing("LPIPS"),
        "fid": INCEPTION.missing("FID"),
    }
    missing |= {f"{name}_{region}": need for name, need in needs.items() if need for region in REGIONS}
    if scoring.syncnet_path is None:
        missing |= dict.fromkeys(("sync_confidence", "sync_offset"), f"the sync columns need {SYNCNET_OPTION}")
    if scoring.lse_syncnet_path is None:
        need = f"LSE-D and LSE-C need {LSE_OPTION}: syncnet_v2.model from {LSE_WEIGHTS_URL}"
        missing |= dict.fromkeys(("lse_d", "lse_c", "lse_offset"), need)
    if needs["lpips"] and needs["fid"] and not (scoring.syncnet_path or scoring.lse_syncnet_path):
        return models, missing  # without PyTorch, which takes a second to load

    from utils.device import choose_device

    device = choose_device(options.device)
    if not needs["lpips"]:
        from utils.evaluation.lpips_fid import PerceptualDistance

        models.lpips = PerceptualDistance(device)
    if not needs["fid"]:
        from utils.evaluation.lpips_fid import FrechetDistance

        models.make_fid = lambda: FrechetDistance(device)
    if scoring.syncnet_path is not None:
        from models.syncnet import SyncNet
        from utils.checkpoints import SYNCNET, load_network, read_checkpoint
        from utils.dubbing.load import complete_metadata
        from utils.dubbing.settings import LoadSettings
        from utils.evaluation.sync_confidence import SyncConfidence
        from utils.speech.extractor import FeatureExtractor
        from utils.speech.features import KINDS

        checkpoint = read_checkpoint(scoring.syncnet_path, SYNCNET_OPTION)
        metadata = complete_metadata(LoadSettings(), checkpoint.metadata)
        kind = KINDS[metadata.audio_feature]
        network = SyncNet(in_channel_audio=kind.channels)
        load_network(network, checkpoint, SYNCNET, SYNCNET_OPTION)
        models.sync = SyncConfidence(network, metadata.mouth_region_size, device)
        models.sync_features = FeatureExtractor(kind.name, options.deepspeech_model_path, options.whisper_model)
    if scoring.lse_syncnet_path is not None:
        from utils.evaluation.lse import LSEMetric, load_chung_syncnet

        with blame(LSE_OPTION):
            models.lse = LSEMetric(load_chung_syncnet(scoring.lse_syncnet_path), device)
    return models, missing


def pair_videos(videos: VideoSettings) -> list["Comparison"]:
    """Pair the dubbed videos with the true ones.

    Raises:
        UserError: files that are missing, cannot be read or do not pair.
    """
    from utils.evaluation.clips import pair_files
    from utils.evaluation.comparison import DUBBED, Comparison, check_match, packet_seconds
    from utils.media.video_reader import VideoReader

    comparisons = []
    for name, generated, reference in pair_files(videos.generated, videos.reference):
        with blame("--generated"):
            other = VideoReader(generated)
        with blame("--reference"):
            true = VideoReader(reference)
        with blame("--generated"):  # videos that do not match are refused before anything slow starts
            lengths = packet_seconds(true), packet_seconds(other)
            check_match(true, other, "given", None if None in lengths else lengths)
        audio = generated if other.info.has_audio else reference if true.info.has_audio else None
        option = "--generated" if other.info.has_audio else "--reference"
        comparisons.append(
            Comparison(name, "given", DUBBED, generated, reference, audio, not videos.cross_audio, audio_option=option)
        )
    return comparisons


def dub_videos(clips: ClipSettings, folder: Path, options: argparse.Namespace) -> list["Comparison"]:
    """Dub the clips into a folder, and pair the dubs with them.

    Raises:
        UserError: clips that are missing or cannot be dubbed, unusable weights.
    """
    from utils.dubbing import DubbingJob, DubbingOptions, LoadSettings, load_dubber
    from utils.evaluation.clips import dub_clips, read_clip_list
    from utils.progress import progress_bars

    paths = read_clip_list(clips.clips)
    settings = LoadSettings(clips.checkpoint, **{name: getattr(options, name) for name in MODEL_OPTIONS})
    dubber = load_dubber(settings, DubbingOptions(batch_size=options.batch_size))

    def dub(job: DubbingJob) -> None:
        logger.info(f"dubbing {job.result.name}")
        with progress_bars() as progress:
            dubber.dub(job, progress=progress)

    make_folder(folder, "--result_dir")
    return dub_clips(paths, clips.driving_audio, folder, dub)


def add_rows(comparisons: Sequence["Comparison"], scoring: ScoringSettings, landmark_dir: Path) -> list["Comparison"]:
    """Add the row of the true video before each dub and, with --baselines, those of the baselines after it."""
    from utils.evaluation.clips import truth

    rows = []
    for comparison in comparisons:
        rows += [truth(comparison), comparison]
        if scoring.baselines:
            from utils.evaluation.baselines import make_baselines

            folder = scoring.result_dir / "baselines"
            make_folder(folder, "--result_dir")
            logger.info(f"making the baselines of {comparison.clip} ({comparison.task})")
            rows += make_baselines(comparison, folder, landmark_dir)
    return rows


def score_all(
    comparisons: Sequence["Comparison"], evaluator: "Evaluator", workers: int | None = None
) -> list["Scores"]:
    """Score every comparison. One that cannot be scored is reported, and the rest continue.

    Raises:
        UserError: of the first comparison, if none can be scored.
    """
    from utils.progress import progress_bars

    start = time.perf_counter()
    videos = [path for c in comparisons for path in (c.generated, c.reference, c.driving_video) if path is not None]
    evaluator.videos.analyze(videos, workers)
    scores, errors = [], []
    for (_, task, clip), group in itertools.groupby(comparisons, lambda c: (c.reference, c.task, c.clip)):
        rows = list(group)
        with progress_bars() as progress:
            results = evaluator.score_rows(rows, partial(progress, f"{clip}, {task}"))
        for comparison, result in zip(rows, results, strict=True):
            if isinstance(result, UserError):
                errors.append(result)
                logger.warning(f"{comparison.name} is not scored: {result}")
            else:
                scores.append(result)
    if not scores:
        raise errors[0]
    seconds = time.perf_counter() - start
    frames = sum(score.frames for score in scores)
    logger.info(f"{frames} frames scored in {seconds:.1f} s: {frames / seconds:.1f} frames per second")
    return scores


def main() -> int:
    """Run the script; returns 1 if something could not be scored."""
    options = EvaluationParser().parse_args()
    use_limits(limits_of(options))
    videos, clips, scoring = (make_settings(kind, options) for kind in (VideoSettings, ClipSettings, ScoringSettings))
    check_options(videos, clips, scoring, options.landmark_dir)
    models, missing = load_models(scoring, options)
    found = pair_videos(videos) if videos.generated else dub_videos(clips, scoring.result_dir / "dubbed", options)
    comparisons = add_rows(found, scoring, options.landmark_dir)
    from utils.evaluation.evaluator import Evaluator
    from utils.evaluation.report import mean_rows, table_text, write_report

    evaluator = Evaluator(models, options.landmark_dir)
    scores = score_all(comparisons, evaluator, scoring.workers)
    rows = mean_rows(scores, evaluator.pooled())
    facts = {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "options": {name: str(value) for name, value in vars(options).items()},
    }
    write_report(scoring.result_dir, scores, rows, missing, facts)
    sys.stdout.write(table_text(rows, missing) + "\n")
    logger.info(f"results: {scoring.result_dir}")
    return 0 if len(scores) == len(comparisons) else 1


def command() -> None:
    """Run the installed command (pyproject.toml)."""
    run_script(main)


if __name__ == "__main__":
    command()
