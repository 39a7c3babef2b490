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
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in ("frame", *_COORDINATES) if name not in header]
            if missing:
                raise LandmarkFileError(
                    f"{path} has no column {missing[0]!r} ({len(missing)} of OpenFace's are missing); {_WAY_OUT}"
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
                    if not all(abs(number) < _MAX_NUMBER for number in (numbers[0], *numbers[len(wanted) :])):
                        raise ValueError  # NaN as well
                    int(numbers[0])
                except (ValueError, IndexError, OverflowError):
                    bad.append(number)
                    continue
                values.append(numbers[: len(wanted)])
                extras.append(numbers[len(wanted) :])
    except (UnicodeDecodeError, csv.Error):
        raise LandmarkFileError(f"{path} is not a text file with comma-separated values; {_WAY_OUT}") from None
    if bad:
        problem = f"{path}, line {bad[0]} is cut off or has values that are not numbers"
        problem += f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        if len(bad) > MAX_BAD_ROWS * (len(bad) + len(values)):
            raise LandmarkFileError(f"{problem}; {_WAY_OUT}")
        logger.warning(f"{problem}: left out")
    if not values:
        raise LandmarkFileError(f"{path} has a header but no rows; {_WAY_OUT}")
    table = np.array(values)
    extra = dict(zip(optional, np.array(extras).T, strict=True))
    frame = table[:, 0].astype(np.int64) - 1
    if frame.min() < 0:
        raise LandmarkFileError(f"{path}: frame numbers must start at 1, as OpenFace writes them; {_WAY_OUT}")
    finite = (np.abs(table) < _MAX_COORDINATE).all(axis=1)  # false for NaN
    success = finite & (extra.get("success", np.ones(len(table))) > 0)
    if not success.any():
        raise LandmarkFileError(f"{path} has no frame in which a face was tracked (success 1); {_WAY_OUT}")
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
