"""The small pictures that the page shows: faces to choose from, reference frames, moments of a result."""

from collections.abc import Callable, Sequence
from copy import copy
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
    """A face of the source: its face_id, the share of frames with it, and its landmarks [68, 2] in its best frame."""

    face_id: int
    share: float
    frame: int
    points: np.ndarray


@dataclass(frozen=True)
class Cut:
    """A picture to be made of a frame."""

    frame: int
    make: Callable[[Frame], np.ndarray]


def find_faces(table: LandmarkTable) -> list[FoundFace]:
    """All faces of a source, those that cover most area over time first."""
    seen = np.flatnonzero(table.success)
    sizes = np.prod(np.ptp(table.points[seen], axis=1), axis=1)
    area = {}
    faces = []
    for face_id in np.unique(table.face_id[seen]):
        rows = table.face_id[seen] == face_id
        best = seen[rows][np.argmax(sizes[rows] * table.confidence[seen[rows]])]  # large and sure
        share = float(np.mean(np.isin(np.arange(table.frame_count), table.frame[seen][rows])))
        area[int(face_id)] = float(sizes[rows].sum())
        faces.append(FoundFace(int(face_id), share, int(table.frame[best]), table.points[best]))
    return sorted(faces, key=lambda face: -area[face.face_id])


def face_thumbnail(face: FoundFace, reader: VideoReader) -> Cut:
    """The square round a face, with the forehead, uint8 [THUMBNAIL, THUMBNAIL, 3]."""
    (left, top), (right, bottom) = face.points.min(0), face.points.max(0)
    side = 1.6 * max(right - left, bottom - top)
    middle_x, middle_y = (left + right) / 2, (top + bottom) / 2 - 0.12 * side
    box = CropBox(*(round(float(middle + sign * side / 2)) for middle in (middle_y, middle_x) for sign in (-1, 1)))
    colour = reader.info.colour
    return Cut(face.frame, lambda frame: cut_face(frame.yuv, box, colour).resized(THUMBNAIL, THUMBNAIL))


def face_crop(analyzed: AnalyzedVideo, frame: int) -> Cut:
    """The face crop of a frame that has one, uint8 [THUMBNAIL, THUMBNAIL * 10 / 13, 3]."""
    box, colour = analyzed.plan.box(frame), analyzed.reader.info.colour
    return Cut(frame, lambda picture: cut_face(picture.yuv, box, colour).resized(THUMBNAIL, THUMBNAIL * 10 // 13))


def region_picture(region: CropBox, reader: VideoReader, frame: int) -> Cut:
    """A part of a frame, uint8 [THUMBNAIL, THUMBNAIL, 3]."""
    bounds, colour = (region.top, region.bottom, region.left, region.right), reader.info.colour
    return Cut(frame, lambda picture: resize_image(rgb_patch(picture.yuv, *bounds, colour), THUMBNAIL, THUMBNAIL))


def make_pictures(reader: VideoReader, cuts: Sequence[Cut]) -> list[np.ndarray]:
    """The pictures asked for, in that order, from one pass over the video; several threads may do so at a time."""
    wanted = sorted({cut.frame for cut in cuts})
    pictures: dict[int, np.ndarray] = {}
    for frame in copy(reader).play(wanted):  # a reader belongs to one thread
        pictures |= {number: cut.make(frame) for number, cut in enumerate(cuts) if cut.frame == frame.index}
    return [pictures[number] for number in range(len(cuts))]


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
    pictures = make_pictures(reader, [region_picture(region, reader, frame) for frame in frames])
    return [(float(reader.times[frame]), picture) for frame, picture in zip(frames, pictures, strict=True)]
