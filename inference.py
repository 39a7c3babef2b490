"""Dub a video: python inference.py --source_video_path VIDEO --driving_audio_path AUDIO."""

import argparse
import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from config.inference import EXAMPLE_AUDIO, EXAMPLE_SOURCE, InferenceParser
from config.parser import ASSERTS_DOWNLOAD, pick
from utils.dubbing.job_list import ListedJob, read_jobs
from utils.errors import UserError, make_folder, require_file, run_script

if TYPE_CHECKING:  # torch and its friends take seconds to load: not for --help or a mistyped path
    from utils.dubbing.engine import Dubber, DubbingReport
    from utils.face.analysis import Progress

logger = logging.getLogger(__name__)

PUBLISHED_MOUTH_REGION_SIZE = 256
CHECKPOINT_OPTION = "--pretrained_clip_DINet_path"


def take_example(options: argparse.Namespace) -> None:
    """Dub the example where no video is named."""
    if not any((options.jobs, options.source_video_path, options.driving_audio_path)):
        options.source_video_path, options.driving_audio_path = EXAMPLE_SOURCE, EXAMPLE_AUDIO
        logger.info(f"the example: {EXAMPLE_SOURCE} with {EXAMPLE_AUDIO}")


def check_files(options: argparse.Namespace) -> None:
    """Look at every path before anything slow starts, and make the result folder.

    Raises:
        UserError: naming the option.
    """
    if options.jobs is None:
        _check_source(options.source_video_path, options.driving_audio_path, options.source_openface_landmark_path)
    elif any((options.source_video_path, options.driving_audio_path, options.source_openface_landmark_path)):
        raise UserError("--jobs: names sources, audio and landmarks; leave the options for a single video out")
    require_file(
        options.pretrained_clip_DINet_path,
        CHECKPOINT_OPTION,
        f"train one, or take clip_training_DINet_256mouth.pth of asserts.zip from {ASSERTS_DOWNLOAD}",
    )
    make_folder(options.res_video_dir, "--res_video_dir")
    if options.source_openface_landmark_path is None:
        make_folder(options.landmark_dir, "--landmark_dir")


def _check_source(source: Path | None, audio: Path | None, landmarks: Path | None) -> None:
    for path, option in ((source, "--source_video_path"), (audio, "--driving_audio_path")):
        if path is None:
            raise UserError(f"{option}: is needed, unless --jobs names a list of videos")
        require_file(path, option)
    if landmarks is not None:
        option = "--source_openface_landmark_path"
        require_file(landmarks, option, "leave the option out to detect the landmarks")


def build_dubber(options: argparse.Namespace) -> "Dubber":
    """Return a dubbing engine with the weights, the device and the speech features that the options name.

    Raises:
        UserError: unusable weights, device or feature model.
    """
    from models.dinet import FEATURES, DINet
    from models.inference_form import to_inference_form
    from utils.checkpoints import AVERAGE_SUFFIX, load_network, read_checkpoint
    from utils.device import choose_device, choose_dtype
    from utils.dubbing.engine import Dubber, Speech
    from utils.dubbing.generator import DINetMouthGenerator
    from utils.speech.features import KINDS, FeatureExtractor

    device = choose_device(options.device)
    dtype = choose_dtype(options.precision, device)
    checkpoint = read_checkpoint(options.pretrained_clip_DINet_path, CHECKPOINT_OPTION)
    logger.info(f"weights: {options.pretrained_clip_DINet_path}")
    metadata = checkpoint.metadata
    mouth_region_size = agreed(options.mouth_region_size, metadata.mouth_region_size, "--mouth_region_size")
    if mouth_region_size and mouth_region_size % 32:
        raise UserError(f"--mouth_region_size: {mouth_region_size} is not a multiple of 32; give 64, 128 or 256")
    audio_channel = agreed(options.audio_channel, metadata.audio_channel, "--audio_channel")
    audio_feature = agreed(options.audio_feature, metadata.audio_feature, "--audio_feature")
    kind = KINDS[audio_feature or "deepspeech"]
    if (audio_channel or kind.channels) != kind.channels:
        raise UserError(f"--audio_channel: {kind.name} features have {kind.channels} channels, not {audio_channel}")
    network = DINet(
        options.source_channel,
        options.ref_channel,
        kind.channels,
        metadata.feature_channel or FEATURES,
    )
    averaged = f"net_g{AVERAGE_SUFFIX}"
    load_network(network, checkpoint, averaged if averaged in checkpoint.networks else "net_g", CHECKPOINT_OPTION)
    network = to_inference_form(network, device, dtype)
    generator = DINetMouthGenerator(network, mouth_region_size or PUBLISHED_MOUTH_REGION_SIZE, device, dtype)

    extractor = FeatureExtractor(kind.name, options.deepspeech_model_path, options.whisper_model)

    def read_speech(path: Path) -> Speech:
        features, duration = extractor.extract(path, "--driving_audio_path")
        return Speech(features, duration, path)

    return Dubber(generator, read_speech, options.landmark_dir)


def agreed(asked: object, recorded: object, option: str):
    """Return what the user asked for and the weights record, which must not contradict each other; None if neither."""
    if asked is not None and recorded is not None and asked != recorded:
        raise UserError(
            f"{option}: {asked} was asked for, but the weights are made for {recorded}; leave the option out"
        )
    return recorded if asked is None else asked


@contextlib.contextmanager
def progress_bars() -> Iterator["Progress"]:
    """Give a progress callback that shows one bar a stage."""
    from tqdm import tqdm

    bar: tqdm | None = None
    shown = None

    def show(stage: str, done: int, total: int) -> None:
        nonlocal bar, shown
        if bar is None or stage != shown or done < bar.n:
            if bar is not None:
                bar.close()
            bar, shown = tqdm(desc=stage, total=total or None, unit="frame", disable=None), stage
        bar.update(done - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()


def log_report(report: "DubbingReport") -> None:
    """Tell what was done and where the time went."""
    for stage, seconds in report.seconds.items():
        logger.info(f"{stage:>16} {seconds:8.2f} s")
    if report.untouched_frames:
        logger.info(f"{report.untouched_frames} frames without a usable face were left as they are")
    logger.info(
        f"{report.frames} frames at {float(report.rate):g} fps in {report.total_seconds:.1f} s: "
        f"{report.frames_per_second:.2f} frames a second (stages overlap)"
    )
    logger.info(f"reference frames: {','.join(map(str, report.references))}")
    logger.info(f"result: {report.result}")


def dub_one(options: argparse.Namespace, dubber: "Dubber") -> None:
    """Dub the video that the options name.

    Raises:
        UserError: see Dubber.dub.
    """
    from utils.dubbing.engine import DubbingJob, DubbingOptions

    name = options.source_video_path.stem
    job = DubbingJob(
        source=options.source_video_path,
        audio=options.driving_audio_path,
        result=options.res_video_dir / f"{name}_facial_dubbing_add_audio.mp4",
        landmark_path=options.source_openface_landmark_path,
        face_video=options.res_video_dir / f"{name}_synthetic_face.mp4" if options.save_face_video else None,
    )
    with progress_bars() as progress:
        report = dubber.dub(job, pick(DubbingOptions, options), progress)
    log_report(report)


def dub_all(options: argparse.Namespace, jobs: list[ListedJob], dubber: "Dubber") -> int:
    """Dub the videos of a list; one that fails is named with its cause, and the others go on.

    Gives the number of those that failed.
    """
    from utils.dubbing.engine import DubbingJob, DubbingOptions

    failed = kept = 0
    for number, job in enumerate(jobs, 1):
        logger.info(f"job {number} of {len(jobs)}: {job.source} with {job.audio}")
        if options.resume and job.result.exists():
            kept += 1
            logger.info(f"{job.result} is there already")
            continue
        try:
            _check_source(job.source, job.audio, job.landmarks)
            make_folder(job.result.parent, "--jobs")
            faces = job.result.with_name(f"{job.result.stem}_synthetic_face.mp4") if options.save_face_video else None
            task = DubbingJob(job.source, job.audio, job.result, job.landmarks, faces)
            with progress_bars() as progress:
                report = dubber.dub(task, pick(DubbingOptions, options), progress)
            log_report(report)
        except UserError as error:
            failed += 1
            logger.warning(f"{options.jobs}, line {job.line} failed: {error}")
    logger.info(f"{len(jobs) - failed - kept} of {len(jobs)} jobs dubbed, {kept} there already, {failed} failed")
    return failed


def main() -> int:
    """Run the script."""
    options = InferenceParser().parse_args()
    take_example(options)
    check_files(options)
    jobs = None if options.jobs is None else read_jobs(options.jobs, options.res_video_dir)
    dubber = build_dubber(options)
    if options.batch_size is None:
        from utils.device import default_batch_size

        options.batch_size = default_batch_size(dubber.generator.device)
    if jobs is None:
        dub_one(options, dubber)
        return 0
    return 1 if dub_all(options, jobs, dubber) else 0


def command() -> None:
    """Run the installed command (pyproject.toml)."""
    run_script(main)


if __name__ == "__main__":
    command()
