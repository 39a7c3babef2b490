"""Score dubbed videos or weights: python evaluate.py --generated DUBBED --reference TRUE."""

import argparse
import contextlib
import logging
import shlex
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from config.evaluate import LSE_ADDRESS, LSE_OPTION, EvaluationParser
from utils.errors import UserError, make_folder, require_file, run_script
from utils.media.limits import limits_of, use_limits

if TYPE_CHECKING:  # torch and its friends take seconds to load: not for --help or a mistyped path
    from utils.evaluation.evaluator import Comparison, Instruments, Scores

logger = logging.getLogger(__name__)

SYNCNET_OPTION = "--syncnet_path"


def check_options(options: argparse.Namespace) -> None:
    """See that one of the two ways is chosen whole, that files are there, and make the result folder.

    Raises:
        UserError: naming the option.
    """
    by_videos, by_weights = (options.generated, options.reference), (options.pretrained_clip_DINet_path, options.clips)
    if any(by_videos) == any(by_weights):
        raise UserError("give either --generated and --reference, or --checkpoint and --clips")
    for names, values in (("--generated --reference", by_videos), ("--checkpoint --clips", by_weights)):
        for name, value in zip(names.split(), values, strict=True):
            if any(values) and not value:
                raise UserError(f"{name} is missing; {names.replace(' ', ' and ')} go together")
    if options.pretrained_clip_DINet_path:
        require_file(options.pretrained_clip_DINet_path, "--checkpoint")
    for path in options.driving_audio:
        require_file(path, "--driving_audio")
    if options.syncnet_path:
        require_file(options.syncnet_path, SYNCNET_OPTION, "leave the option out, or train one with train_syncnet.py")
    if options.lse_syncnet_path:
        require_file(options.lse_syncnet_path, LSE_OPTION, f"download {LSE_ADDRESS}")
    make_folder(options.result_dir, "--result_dir")
    make_folder(options.landmark_dir, "--landmark_dir")


def build_instruments(options: argparse.Namespace) -> tuple["Instruments", dict[str, str]]:
    """Load the optional networks; also say, by column, what those need that cannot be loaded.

    Raises:
        UserError: unusable SyncNet weights or device.
    """
    from models.syncnet import SyncNet
    from utils.checkpoints import SYNCNET, load_network, read_checkpoint
    from utils.device import choose_device
    from utils.evaluation.evaluator import REGIONS, Instruments
    from utils.evaluation.lpips_fid import ALEXNET, INCEPTION, FrechetDistance, PerceptualDistance
    from utils.evaluation.lse import LipSyncErrorJudge
    from utils.evaluation.sync_confidence import SyncJudge
    from utils.speech.extractor import FeatureExtractor
    from utils.speech.features import KINDS

    device = choose_device(options.device)
    instruments, missing = Instruments(), {}
    lpips_missing, fid_missing = ALEXNET.missing("LPIPS"), INCEPTION.missing("FID")
    if lpips_missing is None:
        instruments.lpips = PerceptualDistance(device)
    else:
        missing |= {f"lpips_{region}": lpips_missing for region in REGIONS}
    if fid_missing is None:
        instruments.make_fid = lambda: FrechetDistance(device)
    else:
        missing |= {f"fid_{region}": fid_missing for region in REGIONS}
    if options.syncnet_path is None:
        missing |= dict.fromkeys(("sync_confidence", "sync_offset"), f"the sync columns need {SYNCNET_OPTION}")
    else:
        checkpoint = read_checkpoint(options.syncnet_path, SYNCNET_OPTION)
        metadata = checkpoint.metadata
        kind = KINDS[metadata.audio_feature or "deepspeech"]
        network = SyncNet(in_channel_audio=kind.channels)
        load_network(network, checkpoint, SYNCNET, SYNCNET_OPTION)
        instruments.sync = SyncJudge(network, metadata.mouth_region_size or 256, device)
        instruments.sync_features = FeatureExtractor(kind.name, options.deepspeech_model_path, options.whisper_model)
    if options.lse_syncnet_path is None:
        needs = f"LSE-D and LSE-C need {LSE_OPTION}: syncnet_v2.model from {LSE_ADDRESS}"
        missing |= dict.fromkeys(("lse_d", "lse_c", "lse_offset"), needs)
    else:
        instruments.lse = LipSyncErrorJudge(options.lse_syncnet_path, device)
    return instruments, missing


@contextlib.contextmanager
def progress_bar(text: str, total: int) -> Iterator["object"]:
    """A bar over frames."""
    from tqdm import tqdm

    with tqdm(desc=text, total=total or None, unit="frame", disable=None) as bar:
        yield lambda done, _: bar.update(done - bar.n)


def find_comparisons(options: argparse.Namespace) -> list["Comparison"]:
    """Pair the given videos, or dub the clips.

    Raises:
        UserError: files that are missing, do not pair or cannot be dubbed.
    """
    from utils.evaluation.clips import dub_clips, pair_files, read_clip_list
    from utils.evaluation.evaluator import Comparison, align
    from utils.media.video_reader import VideoReader

    if options.generated:
        comparisons = []
        for name, generated, reference in pair_files(options.generated, options.reference):
            other, true = VideoReader(generated, "--generated"), VideoReader(reference, "--reference")
            sound = generated if other.info.has_audio else reference if true.info.has_audio else None
            comparison = Comparison(name, "given", "dubbed", generated, reference, sound, not options.other_words)
            align(true, other, comparison)  # videos that do not match are refused before anything slow starts
            comparisons.append(comparison)
        return comparisons
    from utils.dubbing import DubbingJob, DubbingOptions, LoadSettings, load_dubber
    from utils.progress import progress_bars

    clips = read_clip_list(options.clips)
    settings = LoadSettings(
        options.pretrained_clip_DINet_path,
        options.deepspeech_model_path,
        options.whisper_model,
        options.landmark_dir,
        device=options.device,
        precision=options.precision,
    )
    dubber = load_dubber(settings, DubbingOptions(batch_size=options.batch_size))

    def dub(job: DubbingJob) -> None:
        logger.info(f"dubbing {job.result.name}")
        with progress_bars() as progress:
            dubber.dub(job, progress=progress)

    folder = options.result_dir / "dubbed"
    make_folder(folder, "--result_dir")
    return dub_clips(clips, options.driving_audio, folder, dub)


def add_rows(comparisons: list["Comparison"], options: argparse.Namespace) -> list["Comparison"]:
    """Put the truth's row before each dub, once a clip and task, and the baselines behind it."""
    from utils.evaluation.clips import baselines, truth

    rows = []
    folder = options.result_dir / "baselines"
    if options.baselines:
        make_folder(folder, "--result_dir")
    for comparison in comparisons:
        rows += [truth(comparison), comparison]
        if options.baselines:
            logger.info(f"making the baselines of {comparison.clip} ({comparison.task})")
            rows += baselines(comparison, folder, options.landmark_dir)
    return rows


def score_all(
    comparisons: list["Comparison"], instruments: "Instruments", options: argparse.Namespace
) -> list["Scores"]:
    """Score every comparison, with the landmarks of all videos detected before, by several processes.

    What cannot be scored is named with its cause, and the others go on.

    Raises:
        UserError: of the first comparison, where none can be scored.
    """
    from utils.evaluation.clips import detect_landmarks
    from utils.evaluation.evaluator import Evaluator

    start = time.perf_counter()
    detect_landmarks(comparisons, options.landmark_dir, options.workers)
    evaluator = Evaluator(instruments, options.landmark_dir)
    scores, errors = [], []
    for comparison in comparisons:
        name = f"{comparison.clip}, {comparison.task}: {comparison.row}"
        try:
            with progress_bar(name, 0) as progress:
                scores.append(evaluator.score(comparison, progress))
        except UserError as error:
            errors.append(error)
            logger.warning(f"{name} is not scored: {error}")
    if not scores:
        raise errors[0]
    seconds = time.perf_counter() - start
    frames = sum(score.frames for score in scores)
    logger.info(f"{frames} frames scored in {seconds:.1f} s: {frames / seconds:.1f} frames a second")
    return scores


def main() -> int:
    """Run the script; gives 1 where something could not be scored."""
    options = EvaluationParser().parse_args()
    use_limits(limits_of(options))
    check_options(options)
    instruments, missing = build_instruments(options)
    comparisons = add_rows(find_comparisons(options), options)
    scores = score_all(comparisons, instruments, options)
    from utils.evaluation.report import mean_rows, table_text, write_report

    pooled: dict[tuple[str, str], dict[str, float]] = {}
    for (task, row, region), distance in instruments.fid.items():
        pooled.setdefault((task, row), {})[f"fid_{region}"] = distance.value()
    rows = mean_rows(scores, pooled)
    facts = {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "options": {name: str(value) for name, value in vars(options).items()},
    }
    write_report(options.result_dir, scores, rows, missing, facts)
    sys.stdout.write(table_text(rows, missing) + "\n")
    logger.info(f"results: {options.result_dir}")
    return 0 if len(scores) == len(comparisons) else 1


def command() -> None:
    """Run the installed command (pyproject.toml)."""
    run_script(main)


if __name__ == "__main__":
    command()
