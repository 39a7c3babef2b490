"""OpenFace's csv of landmarks, read and written."""

import csv
import logging
from pathlib import Path

import numpy as np

from utils.errors import UserError, require_file
from utils.face.landmarks import POINTS, LandmarkTable
from utils.files import atomic_path

logger = logging.getLogger(__name__)

MAX_BAD_ROWS = 0.1
"""Largest fraction of a csv's rows that may be cut off or without numbers; their frames then have no face."""

_WAY_OUT = "run OpenFace on the video again"
_COORDINATES = [f"x_{i}" for i in range(POINTS)] + [f"y_{i}" for i in range(POINTS)]


_MAX_NUMBER = 1e9  # of frames and faces
_MAX_COORDINATE = 1e5  # pixels; far larger than any picture, and its squares fit into float32


class LandmarkFileError(UserError):
    """A csv of landmarks that cannot be read or belongs to another video. The message names the file."""


def read_openface_csv(path: Path) -> LandmarkTable:
    """Read OpenFace's csv, of any version and any choice of columns, by column name.

    A few rows that are cut off or have values that are not numbers are left out with a warning.

    Raises:
        LandmarkFileError: not such a csv, one with more than MAX_BAD_ROWS such rows, or without a single tracked face.
    """
    try:
        path = require_file(path, hint=_WAY_OUT)
    except UserError as error:
        raise LandmarkFileError(str(error)) from None
    columns = _read_columns(path)
    frame = columns["frame"].astype(np.int64) - 1
    if frame.min() < 0:
        raise LandmarkFileError(f"{path}: frame numbers must start at 1, as OpenFace writes them; {_WAY_OUT}")
    count = len(frame)
    coordinates = np.stack([columns[name] for name in _COORDINATES], 1)
    plausible = (np.abs(coordinates) < _MAX_COORDINATE).all(axis=1)  # false for NaN
    success = plausible & (columns.get("success", np.ones(count)) > 0)
    if not success.any():
        raise LandmarkFileError(f"{path} has no frame in which a face was tracked (success 1); {_WAY_OUT}")
    return LandmarkTable(
        frame=frame,
        face_id=columns.get("face_id", np.zeros(count)).astype(np.int64),
        confidence=columns.get("confidence", np.ones(count)),
        success=success,
        points=coordinates.reshape(-1, 2, POINTS).transpose(0, 2, 1).astype(np.float32),
    )


def _read_columns(path: Path) -> dict[str, np.ndarray]:
    """The needed columns of the csv by name, and those of face_id, confidence and success that it has, float64 [N].

    Raises:
        LandmarkFileError: see read_openface_csv.
    """
    rows: list[list[float]] = []
    bad_lines: list[int] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in ("frame", *_COORDINATES) if name not in header]
            if missing:
                raise LandmarkFileError(
                    f"{path} has no column {missing[0]!r} ({len(missing)} of OpenFace's are missing); {_WAY_OUT}"
                )
            integers = ["frame", *(name for name in ("face_id", "confidence", "success") if name in header)]
            names = [*integers, *_COORDINATES]
            indices = [header.index(name) for name in names]
            for line, row in enumerate(reader, start=2):
                if not any(cell.strip() for cell in row):
                    continue
                try:
                    numbers = [float(row[index]) for index in indices]
                    if not all(abs(number) < _MAX_NUMBER for number in numbers[: len(integers)]):
                        raise ValueError  # also for NaN
                except (ValueError, IndexError):
                    bad_lines.append(line)
                    continue
                rows.append(numbers)
    except (UnicodeDecodeError, csv.Error):
        raise LandmarkFileError(f"{path} is not a text file with comma-separated values; {_WAY_OUT}") from None
    if bad_lines:
        problem = f"{path}, line {bad_lines[0]} is cut off or has values that are not numbers"
        problem += f", and {len(bad_lines) - 1} more" if len(bad_lines) > 1 else ""
        if len(bad_lines) > MAX_BAD_ROWS * (len(bad_lines) + len(rows)):
            raise LandmarkFileError(f"{problem}; {_WAY_OUT}")
        logger.warning(f"{problem}: left out")
    if not rows:
        raise LandmarkFileError(f"{path} has a header but no rows; {_WAY_OUT}")
    return dict(zip(names, np.array(rows).T, strict=True))


def write_openface_csv(path: Path, table: LandmarkTable, rate: float) -> None:
    """Write a table in OpenFace's layout, coordinates to a hundredth of a pixel.

    Args:
        path: the csv; its folder exists.
        table: what to write.
        rate: frames per second, for the column of time stamps.
    """
    order = np.lexsort((table.face_id, table.frame))
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(", ".join(("frame", "face_id", "timestamp", "confidence", "success", *_COORDINATES)) + "\n")
        for row in order:
            frame = table.frame[row]
            head = f"{frame + 1}, {table.face_id[row]}, {frame / rate:.3f}, {table.confidence[row]:.2f}"
            numbers = ", ".join(f"{value:.2f}" for value in table.points[row].T.ravel())
            file.write(f"{head}, {int(table.success[row])}, {numbers}\n")


def check_table_fits(table: LandmarkTable, frame_count: int, width: int, height: int, path: Path) -> None:
    """Raise LandmarkFileError where the landmarks cannot belong to a video of this length and size in pixels."""
    last = int(table.frame.max()) + 1
    if abs(last - frame_count) > max(3, 0.02 * frame_count):
        raise LandmarkFileError(
            f"{path} holds the landmarks of another video: it has {last} frames, this video {frame_count}; {_WAY_OUT}"
        )
    points = table.points[table.success]
    inside = (points >= 0).all(axis=-1) & (points[..., 0] < width) & (points[..., 1] < height)
    if inside.mean() < 0.5:
        raise LandmarkFileError(
            f"{path} holds the landmarks of another video: most lie outside its {width}x{height} pixels "
            f"(up to x {points[..., 0].max():.0f}, y {points[..., 1].max():.0f}); {_WAY_OUT}"
        )
