"""Landmark tables of several faces."""

import numpy as np

from helpers.faces import face
from utils.face.landmarks import LandmarkTable


def spiral(x, y, size=50.0):
    """[68, 2] points on a spiral of this size round (x, y)."""
    turn = np.linspace(0, 6, 68)
    return np.stack([x + size * np.cos(turn), y + size * np.sin(turn)], -1).astype(np.float32)


def landmark_table(rows):
    """From (frame, face_id, points) or (frame, face_id, points, success)."""
    return LandmarkTable(
        frame=np.array([row[0] for row in rows]),
        face_id=np.array([row[1] for row in rows]),
        confidence=np.full(len(rows), 0.98),
        success=np.array([row[3] if len(row) > 3 else True for row in rows]),
        points=np.stack([row[2] for row in rows]),
    )


def speaking_face(opening, x=128.0, y=75.0, size=25.0):
    """A face in the same place in every frame whose lips are so many pixels open: a table of one row per frame."""
    points = np.stack([face(x, y, size) for _ in opening]).astype(np.float32)
    points[:, 36, 0], points[:, 45, 0] = x - 12, x + 12
    points[:, 60:68, 1] = points[:, 48, 1][:, None]
    points[:, 65:68, 1] += opening[:, None]
    return landmark_table([(frame, 0, row) for frame, row in enumerate(points)])
