"""68-point face landmarks of a video: OpenFace's csv, and one face followed through it."""

import csv
import itertools
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.errors import UserError, require_file
from utils.face.crop_plan import shot_ranges
from utils.files import atomic_path

logger = logging.getLogger(__name__)

POINTS = 68
HELD_FRAMES = 5
"""Frames without landmarks at the beginning or end of a shot that take those of the nearest frame."""

LINK_FRAMES = 50
"""A face that is away for longer than this begins a new track."""

MOST_BAD_ROWS = 0.1
"""Share of a csv's rows that may be cut off or without numbers; their frames then have no face."""

_WAY_OUT = "run OpenFace on the video again, or leave the option out to detect the landmarks"
_COORDINATES = [f"x_{i}" for i in range(POINTS)] + [f"y_{i}" for i in range(POINTS)]


@dataclass(frozen=True)
class LandmarkTable:
    """Landmarks of all faces in all frames, one row a face and frame.

    `frame` int [N] from 0, `face_id` int [N], `confidence` float [N] in [0, 1], `success` bool [N],
    `points` float32 [N, 68, 2] pixels (x, y) of the full frame.
    """

    frame: np.ndarray
    face_id: np.ndarray
    confidence: np.ndarray
    success: np.ndarray
    points: np.ndarray


def read_openface_csv(path: Path, option: str = "--source_openface_landmark_path") -> LandmarkTable:
    """Read OpenFace's csv, of any version and any choice of columns, by column name.

    A few rows that are cut off or have something else than numbers are left out with a warning.

    Raises:
        UserError: not such a csv, one with more than MOST_BAD_ROWS such rows, or without a single tracked face.
    """
    path = require_file(path, option, _WAY_OUT)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in ("frame", *_COORDINATES) if name not in header]
            if missing:
                raise UserError(
                    f"{option}: {path} has no column {missing[0]!r} ({len(missing)} of OpenFace's are missing); "
                    f"{_WAY_OUT}"
                )
            column = {name: header.index(name) for name in header}
            wanted = [column[name] for name in ("frame", *_COORDINATES)]
            optional = {name: column[name] for name in ("face_id", "confidence", "success") if name in column}
            values, extras, bad = [], [], []
            for number, row in enumerate(reader, start=2):
                if not any(cell.strip() for cell in row):
                    continue
                try:
                    numbers = [float(row[index]) for index in (*wanted, *optional.values())]
                    int(numbers[0])
                except (ValueError, IndexError, OverflowError):
                    bad.append(number)
                    continue
                values.append(numbers[: len(wanted)])
                extras.append(numbers[len(wanted) :])
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"{option}: {path} is not a text file with comma-separated values; {_WAY_OUT}") from None
    if bad:
        problem = f"{option}: {path}, line {bad[0]} is cut off or has something else than numbers"
        problem += f", as {len(bad) - 1} more" if len(bad) > 1 else ""
        if len(bad) > MOST_BAD_ROWS * (len(bad) + len(values)):
            raise UserError(f"{problem}; {_WAY_OUT}")
        logger.warning(f"{problem}: left out")
    if not values:
        raise UserError(f"{option}: {path} has a header but no rows; {_WAY_OUT}")
    table = np.array(values)
    extra = dict(zip(optional, np.array(extras).T, strict=True))
    frame = table[:, 0].astype(np.int64) - 1
    if frame.min() < 0:
        raise UserError(f"{option}: {path}: frame numbers must start at 1, as OpenFace writes them; {_WAY_OUT}")
    finite = np.isfinite(table).all(axis=1)
    success = finite & (extra.get("success", np.ones(len(table))) > 0)
    if not success.any():
        raise UserError(f"{option}: {path} has no frame in which a face was tracked (success 1); {_WAY_OUT}")
    return LandmarkTable(
        frame=frame,
        face_id=extra.get("face_id", np.zeros(len(table))).astype(np.int64),
        confidence=extra.get("confidence", np.ones(len(table))),
        success=success,
        points=table[:, 1:].reshape(-1, 2, POINTS).transpose(0, 2, 1).astype(np.float32),
    )


def write_openface_csv(path: Path, table: LandmarkTable, rate: float) -> None:
    """Write a table in OpenFace's layout, coordinates to a hundredth of a pixel.

    Args:
        path: the csv; its folder exists.
        table: what to write.
        rate: frames a second, for the column of time stamps.
    """
    order = np.lexsort((table.face_id, table.frame))
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(", ".join(("frame", "face_id", "timestamp", "confidence", "success", *_COORDINATES)) + "\n")
        for row in order:
            frame = table.frame[row]
            head = f"{frame + 1}, {table.face_id[row]}, {frame / rate:.3f}, {table.confidence[row]:.2f}"
            numbers = ", ".join(f"{value:.2f}" for value in table.points[row].T.ravel())
            file.write(f"{head}, {int(table.success[row])}, {numbers}\n")


def check_table_fits(table: LandmarkTable, frame_count: int, width: int, height: int, path: Path, option: str) -> None:
    """Raise UserError where the landmarks cannot belong to a video of this length and size in pixels."""
    last = int(table.frame.max()) + 1
    if abs(last - frame_count) > max(3, 0.02 * frame_count):
        raise UserError(
            f"{option}: {path} holds the landmarks of another video: it has {last} frames, this video {frame_count}; "
            f"{_WAY_OUT}"
        )
    points = table.points[table.success]
    inside = (points >= 0).all(axis=-1) & (points[..., 0] < width) & (points[..., 1] < height)
    if inside.mean() < 0.5:
        raise UserError(
            f"{option}: {path} holds the landmarks of another video: most lie outside its {width}x{height} pixels "
            f"(up to x {points[..., 0].max():.0f}, y {points[..., 1].max():.0f}); {_WAY_OUT}"
        )


def follow_face(table: LandmarkTable, frame_count: int, shots: np.ndarray, face: int | None = None) -> np.ndarray:
    """Landmarks of one face through the video.

    Args:
        table: all faces.
        frame_count: frames of the video, N.
        shots: int [S], first frame of each shot, beginning with 0.
        face: face_id to take; None follows, in each shot, the face that covers most area over time.

    Returns:
        float32 [N, 68, 2], NaN where the face is missing.

    Raises:
        UserError: no face of that id.
    """
    rows = np.flatnonzero(table.success & (table.frame < frame_count))
    if face is not None:
        present = np.unique(table.face_id[rows])
        if face not in present:
            raise UserError(f"--face: there is no face {face}; the landmarks have {', '.join(map(str, present))}")
        rows = rows[table.face_id[rows] == face]
    points = np.full((frame_count, POINTS, 2), np.nan, np.float32)
    for shot in shot_ranges(shots, frame_count):
        inside = rows[(table.frame[rows] >= shot.start) & (table.frame[rows] < shot.stop)]
        if len(inside):
            track = _largest_track(table, inside)
            points[table.frame[track]] = table.points[track]
    return points


def _largest_track(table: LandmarkTable, rows: np.ndarray) -> np.ndarray:
    """Rows of the face with the largest sum of areas. Rows are linked by position: ids may change or be absent."""
    low, high = table.points[rows].min(axis=1), table.points[rows].max(axis=1)
    centre, size = (low + high) / 2, (high - low).max(axis=1)
    area = np.prod(high - low, axis=1)
    tracks: list[list[int]] = []
    order = np.argsort(table.frame[rows], kind="stable")
    frame = table.frame[rows]
    for group in np.split(order, np.flatnonzero(np.diff(frame[order])) + 1):
        pairs = sorted(
            (float(np.linalg.norm(centre[track[-1]] - centre[item]) / size[track[-1]]), number, int(item))
            for number, track in enumerate(tracks)
            if frame[group[0]] - frame[track[-1]] <= LINK_FRAMES
            for item in group
        )
        linked_tracks, linked_items = set(), set()
        for distance, number, item in pairs:
            # Half a face is further than a head moves between frames, and less than two heads are apart.
            if distance < 0.5 and number not in linked_tracks and item not in linked_items:
                tracks[number].append(item)
                linked_tracks.add(number)
                linked_items.add(item)
        tracks.extend([int(item)] for item in group if int(item) not in linked_items)
    best = max(tracks, key=lambda track: float(area[track].sum()))
    # The same person after a gap in which the link broke: fill in what lies in frames that the best track lacks.
    chosen = {int(frame[item]): item for item in best}
    for track in sorted(tracks, key=lambda track: -float(area[track].sum())):
        frames = [int(frame[item]) for item in track]
        if track is not best and not any(frame in chosen for frame in frames):
            chosen.update(zip(frames, track, strict=True))
    return rows[[chosen[frame] for frame in sorted(chosen)]]


def fill_gaps(points: np.ndarray, shots: np.ndarray, max_gap_frames: int) -> np.ndarray:
    """Interpolate short gaps inside shots; at a shot's edge the nearest landmarks are held for a few frames.

    Args:
        points: float32 [N, 68, 2], NaN where missing.
        shots: int [S], first frame of each shot, beginning with 0.
        max_gap_frames: longer gaps stay as they are.

    Returns:
        float32 [N, 68, 2].
    """
    filled = points.copy()
    for shot in shot_ranges(shots, len(points)):
        part = filled[shot]  # a view
        known = np.flatnonzero(~np.isnan(part[:, 0, 0]))
        if len(known) == 0:
            continue
        for before, after in itertools.pairwise(known):
            if 1 < after - before <= max_gap_frames + 1:
                share = (np.arange(1, after - before) / (after - before))[:, None, None]
                part[before + 1 : after] = part[before] * (1 - share) + part[after] * share
        if known[0] <= HELD_FRAMES:
            part[: known[0]] = part[known[0]]
        if len(part) - 1 - known[-1] <= HELD_FRAMES:
            part[known[-1] + 1 :] = part[known[-1]]
    return filled
