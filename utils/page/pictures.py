"""The small pictures that the page shows: faces to choose from, reference frames, moments of a result."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.face.analysis import AnalyzedVideo
from utils.face.crop import cut_face
from utils.face.crop_geometry import CropBox
from utils.face.crop_plan import CropPlan
from utils.face.landmarks import LandmarkTable
from utils.media.images import resize_image
from utils.media.video_reader import Frame, VideoReader
from utils.media.yuv import rgb_patch

THUMBNAIL = 160
"""Side of a face's thumbnail in pixels."""
TIMELINE_FRAMES = 10
MOMENTS = 8


@dataclass(frozen=True)
class FoundFace:
    """A face of the source: its face_id, a picture uint8 [THUMBNAIL, THUMBNAIL, 3], and the share of frames with it."""

    face_id: int
    picture: np.ndarray
    share: float


def whole_picture(frame: Frame, reader: VideoReader, height: int) -> np.ndarray:
    """A frame as uint8 RGB, scaled to `height` if it is higher, at the shape it is shown in."""
    info = reader.info
    rgb = rgb_patch(frame.yuv, 0, info.height, 0, info.width, info.colour)
    height = min(height, info.height)
    width = max(1, round(height * info.width * info.sample_aspect_ratio / info.height))
    return resize_image(rgb, height, width)


def find_faces(reader: VideoReader, table: LandmarkTable) -> list[FoundFace]:
    """All faces of a source, those that cover most area over time first."""
    seen = np.flatnonzero(table.success)
    sizes = np.prod(np.ptp(table.points[seen], axis=1), axis=1)
    frames = table.frame_count
    shown: list[tuple[float, int, int]] = []  # area over time, face_id, row of its best frame
    for face_id in np.unique(table.face_id[seen]):
        rows = table.face_id[seen] == face_id
        # The best frame: large and sure.
        best = seen[rows][np.argmax(sizes[rows] * table.confidence[seen[rows]])]
        shown.append((float(sizes[rows].sum()), int(face_id), int(best)))
    shown.sort(reverse=True)
    pictures = _pictures(reader, [int(table.frame[row]) for _, _, row in shown])
    return [
        FoundFace(
            face_id,
            _thumbnail(pictures[int(table.frame[row])], reader, table.points[row]),
            float(np.mean(np.isin(np.arange(frames), table.frame[seen][table.face_id[seen] == face_id]))),
        )
        for _, face_id, row in shown
    ]


def frame_pictures(reader: VideoReader, frames: Sequence[int], height: int = 180) -> list[np.ndarray]:
    """Whole frames as small pictures, in the order asked for."""
    pictures = _pictures(reader, frames)
    return [whole_picture(pictures[frame], reader, height) for frame in frames]


def face_pictures(analyzed: AnalyzedVideo, frames: Sequence[int]) -> list[np.ndarray]:
    """The face crops of frames that have one, uint8 [THUMBNAIL, THUMBNAIL * 10 / 13, 3], in the order asked for."""
    pictures = _pictures(analyzed.reader, frames)
    colour, width = analyzed.reader.info.colour, THUMBNAIL * 10 // 13
    return [
        cut_face(pictures[frame].yuv, analyzed.plan.box(frame), colour).resized(THUMBNAIL, width) for frame in frames
    ]


def evenly_spaced(count: int, wanted: int) -> list[int]:
    """Up to `wanted` numbers from 0 to `count` - 1, evenly spaced, the first and the last included."""
    return sorted({round(position) for position in np.linspace(0, count - 1, wanted)})


def face_region(plan: CropPlan, width: int, height: int) -> CropBox:
    """The square, in a picture of that size, where the face is most of the time, with some of what is round it."""
    points = plan.points[plan.usable]
    left, top = np.percentile(points.min(1), 10, axis=0)
    right, bottom = np.percentile(points.max(1), 90, axis=0)
    side = min(1.7 * max(right - left, bottom - top), width, height)
    box = []
    for middle, size in (((top + bottom) / 2 - 0.05 * side, height), ((left + right) / 2, width)):
        start = 2 * round(float(np.clip(middle - side / 2, 0, size - side)) / 2)
        box += [start, min(size, start + 2 * max(1, round(side / 2)))]
    return CropBox(*box)


def moments(path: Path, region: CropBox) -> list[tuple[float, np.ndarray]]:
    """Eight moments of a video: (seconds, picture of the region)."""
    reader = VideoReader(path)
    count = len(reader.times)
    frames = evenly_spaced(count, MOMENTS + 2)[1:-1] if count > MOMENTS + 1 else evenly_spaced(count, MOMENTS)
    pictures = _pictures(reader, frames)
    bounds = region.top, region.bottom, region.left, region.right
    return [
        (
            float(reader.times[frame]),
            resize_image(rgb_patch(pictures[frame].yuv, *bounds, reader.info.colour), THUMBNAIL, THUMBNAIL),
        )
        for frame in frames
    ]


def _pictures(reader: VideoReader, frames: Sequence[int]) -> dict[int, Frame]:
    return {frame.index: frame for frame in reader.play(sorted(set(frames)))}


def _thumbnail(frame: Frame, reader: VideoReader, points: np.ndarray) -> np.ndarray:
    """The square round a face, with the forehead."""
    (left, top), (right, bottom) = points.min(0), points.max(0)
    side = 1.6 * max(right - left, bottom - top)
    middle_x, middle_y = (left + right) / 2, (top + bottom) / 2 - 0.12 * side
    box = CropBox(*(round(float(middle + sign * side / 2)) for middle in (middle_y, middle_x) for sign in (-1, 1)))
    return cut_face(frame.yuv, box, reader.info.colour).resized(THUMBNAIL, THUMBNAIL)
