"""Prepare training data: python data_processing.py --all --source_video_dir FOLDER."""

import argparse
import contextlib
import logging
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from config.data_folders import DATA_FOLDERS, both_folders
from config.data_processing import DataProcessingParser
from utils.data_processing.cached_results import remove_empty_staging
from utils.data_processing.hdtf import read_annotations
from utils.data_processing.settings import TRAINING_RATE, DataSettings, list_videos
from utils.errors import UserError, make_folder, require_file, run_script
from utils.executors import dask_executor, local_executor, run_all, usable_cores
from utils.media.limits import limits_of, use_limits
from utils.settings import ASSERTS_DOWNLOAD

if TYPE_CHECKING:  # these load libraries: not for --help or a mistyped path
    from utils.data_processing.steps import Report, Source

logger = logging.getLogger(__name__)

FOLDER_OPTIONS = {
    "split_video": "split_video_dir",
    "resample_video": "resampled_video_dir",
    "split_scene": "scene_video_dir",
    "extract_video_frame": "video_frame_dir",
    "extract_audio": "audio_dir",
    "detect_landmark": "openface_landmark_dir",
    "crop_face": "crop_face_dir",
}
"""Where each step leaves its results."""
FOUND_BY_RESULT = {"extract_audio_feature": "audio_dir", "crop_face": "openface_landmark_dir"}
"""Steps that can do without the videos: whose files tell the names."""


def make_settings(options: argparse.Namespace) -> DataSettings:
    """Folders and parameters of all steps."""
    published = options.audio_feature == "deepspeech"
    return DataSettings(
        split_video_dir=options.split_video_dir,
        resampled_video_dir=options.resampled_video_dir,
        scene_video_dir=options.scene_video_dir,
        openface_landmark_dir=options.openface_landmark_dir,
        video_frame_dir=options.video_frame_dir,
        audio_dir=options.audio_dir,
        feature_dir=options.deep_speech_dir if published else options.audio_feature_dir,
        crop_face_dir=options.crop_face_dir,
        audio_feature=options.audio_feature,
        deep_speech_model=options.deep_speech_model,
        whisper_model=options.whisper_model,
        clip_length=options.clip_length,
        jpeg_quality=options.jpeg_quality,
        crf=options.crf,
    )


def check_files(options: argparse.Namespace, settings: DataSettings) -> None:
    """Look at what nothing works without before anything slow starts, and make the result folders.

    Raises:
        UserError: naming the option.
    """
    for step, option in FOLDER_OPTIONS.items():
        if step in options.steps:
            make_folder(getattr(options, option), f"--{option}")
    if "extract_audio_feature" in options.steps:
        published = options.audio_feature == "deepspeech"
        make_folder(settings.feature_dir, "--deep_speech_dir" if published else "--audio_feature_dir")
        if published:
            require_file(
                options.deep_speech_model,
                "--deep_speech_model",
                f"take output_graph.pb of asserts.zip from {ASSERTS_DOWNLOAD}, or use --audio_feature mel",
            )
    if "generate_training_json" in options.steps:
        make_folder(options.json_path.parent, "--json_path")
        if options.json_path.is_dir():
            raise UserError(f"--json_path: {options.json_path} is a folder; name a file")
        if not options.crop_face_dir.is_dir():
            raise UserError(f"--crop_face_dir: {options.crop_face_dir} does not exist; run --crop_face first")


def list_sources(options: argparse.Namespace, report: "Report") -> list["Source"]:
    """Name the videos that the first step works on; those that cannot be used are put down in `report`.

    Raises:
        UserError: there are none.
    """
    from utils.data_processing.steps import Skip, Source

    first, folder = options.steps[0], options.source_video_dir
    videos: dict[str, Path | None] = {}
    for path in list_videos(folder) if folder.is_dir() else []:
        if path.stem in videos:
            report.skips.append(Skip(path.name, first, f"{videos[path.stem].name} has the same name; rename one"))
        else:
            videos[path.stem] = path
    if first in FOUND_BY_RESULT:
        found = getattr(options, FOUND_BY_RESULT[first])
        if found.is_dir():
            videos = {path.stem: None for path in found.iterdir() if path.suffix in (".wav", ".csv")} | videos
    if not videos:
        problem = f"{folder} {'holds no videos' if folder.is_dir() else 'does not exist'}"
        if folder.parent in DATA_FOLDERS:
            problem = f"no videos in {both_folders(folder.name)}"
        raise UserError(f"--source_video_dir: {problem}; name the folder that your videos are in")
    if first == "split_video":
        return list_parts(options, videos, report)
    return [Source(name, video) for name, video in sorted(videos.items())]


def list_parts(options: argparse.Namespace, videos: dict[str, Path], report: "Report") -> list["Source"]:
    """Name the annotated parts of the raw videos."""
    from utils.data_processing.steps import Skip, Source
    from utils.data_processing.video_cutting import Span

    annotations = read_annotations(options.annotation_path or options.source_video_dir, "--annotation_path")
    for name in sorted(videos.keys() - annotations.keys()):
        report.skips.append(Skip(name, "split_video", "not annotated in --annotation_path"))
    for name in sorted(annotations.keys() - videos.keys()):
        report.skips.append(Skip(name, "split_video", "annotated, but not in --source_video_dir"))
    return [
        Source(f"{name}_{index}", videos[name], Span(*span))
        for name in sorted(videos.keys() & annotations.keys())
        for index, span in enumerate(annotations[name])
    ]


def open_executor(options: argparse.Namespace, jobs: int) -> contextlib.AbstractContextManager[Executor]:
    """The processes that do the work."""
    if options.dask_scheduler:
        return dask_executor(options.dask_scheduler)
    return local_executor(min(options.workers or usable_cores(), jobs))


def prepare_videos(options: argparse.Namespace, settings: DataSettings, report: "Report") -> None:
    """Take all videos through the steps, several at a time."""
    from tqdm import tqdm

    from utils.data_processing.steps import prepare

    sources = list_sources(options, report)
    if options.dask_scheduler:  # the workers may stand elsewhere in the file system
        settings = settings.absolute()
        sources = [replace(source, video=source.video and source.video.absolute()) for source in sources]
    # The largest first: a long one at the end would leave the other cores idle.
    sources.sort(key=lambda source: -source.video.stat().st_size if source.video else 0)
    steps = [step for step in options.steps if step != "generate_training_json"]
    work = partial(prepare, steps=steps, settings=settings)
    with open_executor(options, len(sources)) as executor, tqdm(total=len(sources), unit="video") as bar:
        for one in run_all(executor, work, sources):
            report.add(one)
            bar.update()
    remove_empty_staging([*(getattr(options, option) for option in FOLDER_OPTIONS.values()), settings.feature_dir])


def generate_training_json(options: argparse.Namespace, settings: DataSettings, report: "Report") -> None:
    """Write the training json of all crops that have speech features."""
    from dataset.collect import collect_videos
    from dataset.manifest import write_manifest
    from utils.data_processing.steps import Skip

    collection = collect_videos(settings)
    known = {skip.name for skip in report.skips}
    report.skips += [
        Skip(name, "generate_training_json", cause) for name, cause in collection.skips.items() if name not in known
    ]
    report.causes += collection.causes
    if not collection.videos:
        report.skips.append(
            Skip(options.json_path.name, "generate_training_json", "not written: no usable clip at all")
        )
        return
    write_manifest(options.json_path, collection.videos)
    minutes = float(collection.clip_count * settings.clip_length / TRAINING_RATE) / 60
    logger.info(
        f"{options.json_path}: {len(collection.videos)} videos, {collection.clip_count} clips of "
        f"{settings.clip_length} frames, {minutes:.1f} minutes, {options.audio_feature} features"
    )


def log_report(report: "Report") -> None:
    """Tell what was done, and what not and why."""
    for step, count in report.steps.items():
        rate = f", {count.frames / count.seconds:.0f} frames a second and process" if count.frames else ""
        logger.info(f"{step:>22}: {count.made} made, {count.kept} there already, {count.seconds:.1f} s{rate}")
    for cause, count in sorted(report.causes.items()):
        logger.info(f"{count:>22} clips not used: {cause}")
    for skip in sorted(report.skips, key=lambda skip: (skip.name, skip.step)):
        logger.warning(f"skipped {skip.name} ({skip.step}): {skip.cause}")
        if skip.traceback:
            logger.warning(skip.traceback)
    if report.skips:
        logger.warning(f"{len(report.skips)} videos skipped")


def main() -> int:
    """Run the script."""
    options = DataProcessingParser().parse_args()
    use_limits(limits_of(options))
    settings = make_settings(options)
    check_files(options, settings)
    from utils.data_processing.steps import Report

    report = Report()
    if options.steps != ["generate_training_json"]:
        prepare_videos(options, settings, report)
    if "generate_training_json" in options.steps:
        generate_training_json(options, settings, report)
    log_report(report)
    return 1 if report.skips else 0


def command() -> None:
    """Run the installed command (pyproject.toml)."""
    run_script(main)


if __name__ == "__main__":
    command()
