"""Face crops for training: clips of successive frames, each cut at one radius for all of its frames."""

import hashlib
import logging
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from utils.data_processing.cached_results import StepResult
from utils.data_processing.settings import clip_name, frame_name
from utils.data_processing.video_cutting import check_even, open_parts, open_training_video
from utils.errors import UserError, blame
from utils.executors import RunJobs, run_here
from utils.face.crop import cut_face
from utils.face.crop_geometry import TRAINING_SCALE_RANGE, CropBox, check_window, crop_box
from utils.face.landmarks import LandmarkTable, follow_face
from utils.face.openface_csv import check_table_fits, read_openface_csv
from utils.media.images import read_image, write_jpeg
from utils.media.video_parts import PartError, Seam, VideoParts, check_seams, read_frames

logger = logging.getLogger(__name__)

_LANDMARK_OPTION = "--openface_landmark_dir"
_LANDMARK_HINT = "where there is no csv, --detect_landmark makes one"


@dataclass(frozen=True)
class ClipPlan:
    """Which clips of a video can be used.

    `radius` is the crop radius in pixels by clip number, of the usable clips; `causes` counts the others by cause.
    """

    radius: dict[int, int]
    causes: Counter[str]


def plan_clips(points: np.ndarray, shots: np.ndarray, width: int, height: int, clip_length: int, name: str) -> ClipPlan:
    """Cut a video into clips and find the crop radius of each. Clip i has the frames from i * clip_length on.

    Args:
        points: float32 [N, 68, 2] landmarks in pixels, NaN in frames without a face.
        shots: int [S], first frame of each shot; a clip holds frames of one shot only.
        width: frame width in pixels.
        height: frame height in pixels.
        clip_length: frames per clip; an incomplete clip at the end is dropped.
        name: of the video; seeds the scale of each clip together with its number, so that results can be repeated.
    """
    radius: dict[int, int] = {}
    causes: Counter[str] = Counter()
    for number in range(len(points) // clip_length):
        first, end = number * clip_length, (number + 1) * clip_length
        if ((shots > first) & (shots < end)).any():
            causes["scene cut inside the clip"] += 1
            continue
        window = points[first:end]
        check = check_window(window, width, height, clip_scale(name, number))
        if check.radius is None:  # near an edge of the picture the tightest crop may be the only one
            check = check_window(window, width, height, TRAINING_SCALE_RANGE[0])
        if check.radius is None:
            causes[re.sub(r"\d+", "N", check.problem)] += 1  # without its numbers, so that equal causes add up
        else:
            radius[number] = check.radius
    return ClipPlan(radius, causes)


def clip_scale(name: str, number: int) -> float:
    """Scale s of a training clip: uniform in TRAINING_SCALE_RANGE, the same on every machine and in every order."""
    seed = hashlib.sha256(f"{name}/{number}".encode()).digest()
    low, high = TRAINING_SCALE_RANGE
    return low + (high - low) * (int.from_bytes(seed[:8], "big") / 2**64)


@dataclass(frozen=True)
class ClipSettings:
    """What clips are cut from, and how.

    Attributes:
        name: of the video.
        landmark_path: OpenFace csv, with rows up to the last frame.
        shots: int [S], first frame of each shot, beginning with 0.
        source: the 25 fps video, or a folder of all its frames as JPEG, with their loss.
        clip_length: frames per clip.
        jpeg_quality: 1 .. 100.
    """

    name: str
    landmark_path: Path
    shots: np.ndarray
    source: Path
    clip_length: int
    jpeg_quality: int


def crop_clips(target: Path, settings: ClipSettings, run: RunJobs = run_here) -> StepResult:
    """Write the crops of one video to target/CLIP/FRAME.jpg.

    Args:
        target: folder to make.
        settings: the video and how to cut.
        run: runs the jobs.

    Returns:
        Frames of the video, numbers of the usable clips, and how many clips are unusable by cause.

    Raises:
        UserError: landmarks that do not fit the video, a source that cannot be read or is not at 25 fps.
    """
    parts = None if settings.source.is_dir() else run(open_parts, [(settings.source,)])[0]
    if parts is not None:
        try:
            (planned,) = run(_plan_crops, [(settings, parts)])
            target.mkdir()
            jobs = [(target, settings, parts, first, end, planned.boxes[first:end]) for first, end in parts.bounds]
            check_seams(run(_crop_part, jobs))
            return planned.result
        except PartError:
            logger.info(f"{settings.source}: cannot be read in parts, so one process reads all of it")
            shutil.rmtree(target, ignore_errors=True)
    return run(_crop_whole, [(target, settings)])[0]


@dataclass(frozen=True)
class _PlannedCrops:
    """The box to cut out of each frame, None for none, and the facts about the clips."""

    boxes: list[CropBox | None]
    result: StepResult


def _plan_crops(settings: ClipSettings, parts: VideoParts) -> _PlannedCrops:
    info = parts.reader.info
    table, planned = _plan(settings, info.width, info.height)
    _check_table(settings, table, len(parts.pts), info.width, info.height)
    return planned


def _crop_part(
    target: Path, settings: ClipSettings, parts: VideoParts, first: int, end: int, boxes: list[CropBox | None]
) -> Seam:
    """Write the crops of frames `first` .. `end` - 1; returns the checksums for the neighbours."""
    seam = Seam()
    for frame in read_frames(parts, first, min(end + 1, len(parts.pts)), seam):
        if frame.index < end and (box := boxes[frame.index - first]) is not None:
            crop = cut_face(frame.yuv, box, parts.reader.info.colour).resized(box.height, box.width)
            _write_crop(target, settings, frame.index, crop)
    return seam


def _crop_whole(target: Path, settings: ClipSettings) -> StepResult:
    frames = _FrameFolder(settings.source) if settings.source.is_dir() else _VideoFrames(settings.source)
    # By the csv: how many frames a video has is known when all are decoded, and compared then.
    table, planned = _plan(settings, frames.width, frames.height)
    target.mkdir()
    for index, cut in frames:
        box = planned.boxes[index] if index < len(planned.boxes) else None
        if box is not None:
            _write_crop(target, settings, index, cut(box))
    _check_table(settings, table, frames.count, frames.width, frames.height)
    return planned.result


def _plan(settings: ClipSettings, width: int, height: int) -> tuple[LandmarkTable, _PlannedCrops]:
    with blame(_LANDMARK_OPTION, _LANDMARK_HINT):
        table = read_openface_csv(settings.landmark_path)
    count = table.frame_count
    points = follow_face(table, count, settings.shots)
    plan = plan_clips(points, settings.shots, width, height, settings.clip_length, settings.name)
    radius = [plan.radius.get(index // settings.clip_length) for index in range(count)]
    boxes = [None if radius[index] is None else crop_box(points[index], radius[index]) for index in range(count)]
    result = StepResult(count, clips=sorted(plan.radius), causes=dict(sorted(plan.causes.items())))
    return table, _PlannedCrops(boxes, result)


def _check_table(settings: ClipSettings, table: LandmarkTable, count: int, width: int, height: int) -> None:
    """See that landmarks belong to a video of `count` frames.

    Raises:
        UserError: they do not.
    """
    if count != table.frame_count:
        raise UserError(
            f"{_LANDMARK_OPTION}: {settings.landmark_path} has {table.frame_count} frames, the video has {count}; "
            "detect the landmarks again, on this very video"
        )
    with blame(_LANDMARK_OPTION, _LANDMARK_HINT):
        check_table_fits(table, count, width, height, settings.landmark_path)


def _write_crop(target: Path, settings: ClipSettings, index: int, crop: np.ndarray) -> None:
    folder = target / clip_name(index // settings.clip_length)
    folder.mkdir(exist_ok=True)
    write_jpeg(folder / frame_name(index), crop, settings.jpeg_quality)


Cut = Callable[[CropBox], np.ndarray]
"""Returns a box of a frame as uint8 RGB [h, w, 3]; the box lies inside."""


class _VideoFrames:
    """Frames of a 25 fps video; only what is cut out is converted to RGB."""

    def __init__(self, path: Path):
        self._reader = open_training_video(path)
        self.width, self.height = self._reader.info.width, self._reader.info.height

    def __iter__(self) -> Iterator[tuple[int, Cut]]:
        for frame in self._reader.frames():
            yield frame.index, partial(self._cut, frame.yuv)
        check_even(self._reader)

    def _cut(self, yuv: np.ndarray, box: CropBox) -> np.ndarray:
        return cut_face(yuv, box, self._reader.info.colour).resized(box.height, box.width)

    @property
    def count(self) -> int:
        return len(self._reader.times)


class _FrameFolder:
    """Frames that were extracted before; only those of usable clips are read."""

    def __init__(self, folder: Path):
        self._paths = sorted(folder.glob("*.jpg"))
        if not self._paths:
            raise UserError(f"--video_frame_dir: {folder} holds no frames; remove it or run --extract_video_frame")
        self.height, self.width = self._read(self._paths[0]).shape[:2]

    def __iter__(self) -> Iterator[tuple[int, Cut]]:
        for index, path in enumerate(self._paths):
            yield index, partial(self._cut, path)

    def _cut(self, path: Path, box: CropBox) -> np.ndarray:
        return self._read(path)[box.top : box.bottom, box.left : box.right]

    def _read(self, path: Path) -> np.ndarray:
        image = read_image(path)
        if image is None:
            raise UserError(f"--video_frame_dir: {path} cannot be decoded; remove its folder and extract it again")
        return image

    @property
    def count(self) -> int:
        return len(self._paths)
