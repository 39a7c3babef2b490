"""Landmark tables for tests."""

import numpy as np

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
