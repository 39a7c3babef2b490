"""Dub a video: python inference.py --source_video_path VIDEO --driving_audio_path AUDIO."""

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from config.inference import InferenceParser
from config.parser import make_settings
from utils.dubbing import DubbingJob, DubbingOptions, FitSettings, LoadSettings
from utils.dubbing.job_list import ListedJob, check_overwriting, read_jobs
from utils.dubbing.settings import DUBBED_SUFFIX, EXAMPLE_AUDIO, EXAMPLE_SOURCE, FACE_SUFFIX
from utils.errors import UserError, environment_problem, make_folder, require_file, require_result, run_script
from utils.face.landmark_cache import landmarks_in_background
from utils.files import fit_name
from utils.media.limits import limits_of, use_limits
from utils.progress import progress_bars
from utils.settings import ASSERTS_DOWNLOAD

if TYPE_CHECKING:  # torch and its friends take seconds to load: not for --help or a mistyped path
    from utils.dubbing import Dubber, DubbingReport

logger = logging.getLogger(__name__)


def take_example(options: argparse.Namespace) -> None:
    """Fill in the example if no video is named."""
    if not any((options.jobs, options.source_video_path, options.driving_audio_path)):
        options.source_video_path, options.driving_audio_path = EXAMPLE_SOURCE, EXAMPLE_AUDIO
        logger.info(f"the example: {EXAMPLE_SOURCE} with {EXAMPLE_AUDIO}")


def check_files(options: argparse.Namespace) -> None:
    """Check every path before anything slow starts, and make the result folder.

    Raises:
        UserError: naming the option.
    """
    if options.jobs is None:
        _check_source(options.source_video_path, options.driving_audio_path, options.source_openface_landmark_path)
    elif any((options.source_video_path, options.driving_audio_path, options.source_openface_landmark_path)):
        raise UserError("--jobs: names sources, audio and landmarks; leave the options for a single video out")
    require_file(
        options.pretrained_clip_DINet_path,
        "--pretrained_clip_DINet_path",
        f"train one, or take clip_training_DINet_256mouth.pth of asserts.zip from {ASSERTS_DOWNLOAD}",
    )
    make_folder(options.res_video_dir, "--res_video_dir")
    if options.landmark_dir is not None and options.source_openface_landmark_path is None:
        make_folder(options.landmark_dir, "--landmark_dir")


def list_missing_files(jobs: list[ListedJob], path: Path) -> None:
    """Warn of missing files before the first job starts: a list may run for hours."""
    for job in jobs:
        for name in (job.source, job.audio, job.landmarks):
            if name is not None and not name.is_file():
                logger.warning(f"{path}, line {job.line}: there is no file {name}; this job will fail")


def _check_source(source: Path | None, audio: Path | None, landmarks: Path | None) -> None:
    for path, option in ((source, "--source_video_path"), (audio, "--driving_audio_path")):
        if path is None:
            raise UserError(f"{option}: is needed; give a file, or a list of videos with --jobs")
        require_file(path, option)
    if landmarks is not None:
        option = "--source_openface_landmark_path"
        require_file(landmarks, option, "leave the option out to detect the landmarks")


def load(options: argparse.Namespace, source: Path, landmarks: Path | None) -> "Dubber":
    """Load the dubbing engine; with --fit, first fit its weights to the person of `source`.

    Raises:
        UserError: unusable weights, device or feature model; a video that weights cannot be fitted to.
    """
    from utils.dubbing import load_dubber

    settings = make_settings(LoadSettings, options)
    dubbing_options = make_settings(DubbingOptions, options)
    fit_settings = make_settings(FitSettings, options)
    if fit_settings.fit is not None:
        from dataset.fitting import fit_until_stopped

        with progress_bars() as progress:
            weights = fit_until_stopped(source, fit_settings, settings, dubbing_options, progress, landmarks)
        settings = replace(settings, pretrained_clip_DINet_path=weights)
    return load_dubber(settings, dubbing_options)


def log_report(report: "DubbingReport") -> None:
    """Log the seconds per stage, frames, references and result of a dub."""
    for stage, seconds in report.seconds.items():
        logger.info(f"{stage:>16} {seconds:8.2f} s")
    if report.untouched_frames:
        logger.info(f"{report.untouched_frames} frames without a usable face were left as they are")
    logger.info(
        f"{report.frames} frames at {float(report.rate):g} fps in {report.total_seconds:.1f} s: "
        f"{report.frames_per_second:.2f} frames per second (stages overlap)"
    )
    logger.info(f"reference frames: {','.join(map(str, report.references))}")
    logger.info(f"result: {report.result}")


def dub_one(options: argparse.Namespace, dubber: "Dubber") -> None:
    """Dub the video that the options name.

    Raises:
        UserError: see Dubber.dub.
    """
    name = options.source_video_path.stem
    job = DubbingJob(
        source=options.source_video_path,
        audio=options.driving_audio_path,
        result=options.res_video_dir / fit_name(name, f"{DUBBED_SUFFIX}.mp4"),
        landmark_path=options.source_openface_landmark_path,
        face_video=options.res_video_dir / fit_name(name, f"{FACE_SUFFIX}.mp4") if options.save_face_video else None,
    )
    with progress_bars() as progress:
        report = dubber.dub(job, progress=progress)
    log_report(report)


def dub_all(options: argparse.Namespace, jobs: list[ListedJob]) -> int:
    """Dub the videos of a list; returns how many failed. The cause is logged, and the rest continue."""
    failed = skipped = 0
    dubber = None if options.fit else load(options, jobs[0].source, None)
    fitted_to = None
    for number, job in enumerate(jobs, 1):
        logger.info(f"job {number} of {len(jobs)}: {job.source} with {job.audio}")
        if options.resume and is_finished(job.result):
            skipped += 1
            logger.info(f"{job.result} is there already")
            continue
        try:
            _check_source(job.source, job.audio, job.landmarks)
            require_result(job.result)
            make_folder(job.result.parent, "--jobs")
            faces = job.face_video if options.save_face_video else None
            if options.fit and fitted_to != (job.source, job.landmarks):
                dubber = load(options, job.source, job.landmarks)
                fitted_to = (job.source, job.landmarks)
            dubbing_job = DubbingJob(job.source, job.audio, job.result, job.landmarks, faces)
            with progress_bars() as progress:
                report = dubber.dub(dubbing_job, progress=progress)
            log_report(report)
        except Exception as error:
            problem = str(error) if isinstance(error, UserError) else environment_problem(error)
            if problem is None:  # a bug of ours, which must not stop the other jobs
                logger.exception("this is a bug of DINet; please report it with the lines below")
                problem = f"{type(error).__name__}"
            failed += 1
            logger.warning(f"{options.jobs}, line {job.line} failed: {problem}")
    logger.info(f"{len(jobs) - failed - skipped} of {len(jobs)} jobs dubbed, {skipped} there already, {failed} failed")
    return failed


def is_finished(result: Path) -> bool:
    """Whether the result of a job exists: a file gets its final name only when it is complete."""
    try:
        return result.is_file() and result.stat().st_size > 0
    except (OSError, ValueError):
        return False


def main() -> int:
    """Run the script."""
    options = InferenceParser().parse_args()
    use_limits(limits_of(options))
    take_example(options)
    check_files(options)
    jobs = None if options.jobs is None else read_jobs(options.jobs, options.res_video_dir)
    if jobs is None:
        source, landmarks = options.source_video_path, options.source_openface_landmark_path
        # --fit detects the landmarks itself, before the dub.
        detect = landmarks is None and options.fit is None
        with landmarks_in_background(source, options.landmark_dir if detect else None) as wait_for_landmarks:
            dubber = load(options, source, landmarks)
            with progress_bars() as progress:
                wait_for_landmarks(progress)
        dub_one(options, dubber)
        return 0
    models = [path for path in (options.pretrained_clip_DINet_path, options.deepspeech_model_path) if path is not None]
    check_overwriting(options.jobs, jobs, options.save_face_video, models)
    list_missing_files(jobs, options.jobs)
    return 1 if dub_all(options, jobs) else 0


def command() -> None:
    """Run the installed command (pyproject.toml)."""
    run_script(main)


if __name__ == "__main__":
    command()
