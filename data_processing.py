"""Prepare training data: python data_processing.py --all --source_video_dir FOLDER."""

import contextlib
import logging
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from config.data_folders import DATA_FOLDERS, both_folders
from config.data_processing import DataProcessingParser, SourceSettings, StepSettings, WorkSettings
from config.parser import make_settings
from utils.data_processing.cached_results import remove_empty_staging
from utils.data_processing.hdtf import read_annotations
from utils.data_processing.settings import TRAINING_RATE, DataSettings
from utils.errors import UserError, make_folder, require_file, run_script
from utils.executors import dask_executor, local_executor, run_all, usable_cores
from utils.media.limits import limits_of, use_limits
from utils.media.suffixes import list_videos
from utils.settings import ASSERTS_DOWNLOAD

if TYPE_CHECKING:  # these load libraries: not for --help or a mistyped path
    from utils.data_processing.report import Report
    from utils.data_processing.steps import Source

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
"""Option of the folder that each step writes to."""
MAX_CLUSTER_VIDEOS = 256
"""Maximum number of videos processed at a time on a Dask cluster."""
NAMES_FROM_FOLDER = {"extract_audio_feature": "audio_dir", "crop_face": "openface_landmark_dir"}
"""Steps that can start without videos, and the folder whose file names are used instead."""


def check_files(steps: list[str], source: SourceSettings, data: DataSettings) -> None:
    """Check required files and create output folders before any slow work.

    Raises:
        UserError: naming the option.
    """
    for step, option in FOLDER_OPTIONS.items():
        if step in steps:
            make_folder(getattr(data, option), f"--{option}")
    if "extract_audio_feature" in steps:
        make_folder(data.feature_dir, data.feature_option)
        if data.audio_feature == "deepspeech":
            require_file(
                data.deep_speech_model,
                "--deep_speech_model",
                f"take output_graph.pb of asserts.zip from {ASSERTS_DOWNLOAD}, or use --audio_feature mel",
            )
    if "generate_training_json" in steps:
        make_folder(source.json_path.parent, "--json_path")
        if source.json_path.is_dir():
            raise UserError(f"--json_path: {source.json_path} is a folder; name a file")
        if not data.crop_face_dir.is_dir():
            raise UserError(f"--crop_face_dir: {data.crop_face_dir} does not exist; run --crop_face first")


def list_sources(steps: StepSettings, source: SourceSettings, data: DataSettings, report: "Report") -> list["Source"]:
    """List the videos that the first step works on; those that cannot be used are added to `report`.

    Raises:
        UserError: there are none.
    """
    from utils.data_processing.report import Skip
    from utils.data_processing.steps import Source

    first, folder = steps.names[0], source.video_dir(steps)
    videos: dict[str, Path | None] = {}
    for path in list_videos(folder) if folder.is_dir() else []:
        if path.stem in videos:
            report.skips.append(Skip(path.name, first, f"{videos[path.stem].name} has the same name; rename one"))
        else:
            videos[path.stem] = path
    if first in NAMES_FROM_FOLDER:
        named = getattr(data, NAMES_FROM_FOLDER[first])
        if named.is_dir():
            videos = {path.stem: None for path in named.iterdir() if path.suffix in (".wav", ".csv")} | videos
    if not videos:
        problem = f"{folder} {'holds no videos' if folder.is_dir() else 'does not exist'}"
        if folder.parent in DATA_FOLDERS:
            problem = f"no videos in {both_folders(folder.name)}"
        raise UserError(f"--source_video_dir: {problem}; name the folder that your videos are in")
    if first == "split_video":
        return list_parts(source.annotation_path or folder, videos, report)
    return [Source(name, video) for name, video in sorted(videos.items())]


def list_parts(annotation_path: Path, videos: dict[str, Path], report: "Report") -> list["Source"]:
    """List the annotated parts of the raw videos."""
    from utils.data_processing.report import Skip
    from utils.data_processing.steps import Source

    annotations = read_annotations(annotation_path, "--annotation_path")
    for name in sorted(videos.keys() - annotations.keys()):
        report.skips.append(Skip(name, "split_video", "not annotated in --annotation_path"))
    for name in sorted(annotations.keys() - videos.keys()):
        report.skips.append(Skip(name, "split_video", "annotated, but not in --source_video_dir"))
    return [
        Source(f"{name}_{index}", videos[name], span)
        for name in sorted(videos.keys() & annotations.keys())
        for index, span in enumerate(annotations[name])
    ]


def open_executor(work: WorkSettings) -> contextlib.AbstractContextManager[Executor]:
    """The processes that do the work."""
    if work.dask_scheduler:
        return dask_executor(work.dask_scheduler)
    return local_executor(work.workers or usable_cores())


def file_size(path: Path) -> int:
    """Size of a file in bytes; 0 where there is none that can be looked up."""
    try:
        return path.stat().st_size
    except OSError:  # the first step says what is wrong with it
        return 0


def prepare_videos(sources: list["Source"], steps: list[str], data: DataSettings, work: WorkSettings) -> "Report":
    """Take all videos through the steps, several at a time; a long one keeps all processes busy, too."""
    from tqdm import tqdm

    from utils.data_processing.jobs import Jobs
    from utils.data_processing.report import Report
    from utils.data_processing.steps import prepare

    report = Report()
    if work.dask_scheduler:  # the workers may run in another folder
        data = data.absolute()
        sources = [replace(source, video=source.video and source.video.absolute()) for source in sources]
    # The largest first: a long one at the end would leave the other cores idle.
    sources = sorted(sources, key=lambda source: file_size(source.video) if source.video else 0, reverse=True)
    steps = [step for step in steps if step != "generate_training_json"]
    # Threads that only wait for the processes. They end after those, which may be ended in the middle of their work.
    threads = ThreadPoolExecutor(MAX_CLUSTER_VIDEOS if work.dask_scheduler else work.workers or usable_cores())
    with threads, open_executor(work) as executor, tqdm(total=len(sources), unit="video") as bar:

        def prepare_one(source: "Source") -> Report:
            return prepare(source, steps, data, Jobs(executor, source.name, bar.set_postfix_str))

        for one in run_all(threads, prepare_one, sources):
            report.add(one)
            bar.update()
    remove_empty_staging([*(getattr(data, option) for option in FOLDER_OPTIONS.values()), data.feature_dir])
    return report


def generate_training_json(json_path: Path, data: DataSettings, report: "Report") -> None:
    """Write the training json of all crops that have speech features; what cannot be used is added to `report`."""
    from dataset.collect import collect_videos
    from dataset.manifest import write_manifest
    from utils.data_processing.report import Skip

    step = "generate_training_json"
    collection = collect_videos(data)
    known = {skip.name for skip in report.skips}
    report.skips += [Skip(name, step, cause) for name, cause in collection.skips.items() if name not in known]
    report.causes += collection.causes
    if not collection.videos:
        report.skips.append(Skip(json_path.name, step, "not written: there is no usable clip"))
        return
    write_manifest(json_path, collection.videos)
    minutes = float(collection.clip_count * data.clip_length / TRAINING_RATE) / 60
    logger.info(
        f"{json_path}: {len(collection.videos)} videos, {collection.clip_count} clips of {data.clip_length} frames, "
        f"{minutes:.1f} minutes, {data.audio_feature} features"
    )


def main() -> int:
    """Run the script; returns 1 if a video was skipped."""
    parser = DataProcessingParser()
    options = parser.parse_args()
    use_limits(limits_of(options))
    steps, source, data, work = (
        make_settings(kind, options) for kind in (StepSettings, SourceSettings, DataSettings, WorkSettings)
    )
    if not steps.names:
        parser.error("nothing to do: give --all or a step such as --crop_face")
    data = steps.complete(data)
    check_files(steps.names, source, data)
    from utils.data_processing.report import Report

    report = Report()
    if steps.names != ["generate_training_json"]:
        sources = list_sources(steps, source, data, report)
        report.add(prepare_videos(sources, steps.names, data, work))
    if "generate_training_json" in steps.names:
        generate_training_json(source.json_path, data, report)
    report.log()
    return 1 if report.skips else 0


def command() -> None:
    """Run the installed command (pyproject.toml)."""
    run_script(main)


if __name__ == "__main__":
    command()
