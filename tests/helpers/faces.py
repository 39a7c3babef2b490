"""Synthetic landmarks of one face."""

import numpy as np


def face(x=320.0, y=200.0, size=50.0):
    """Landmarks whose crop radius follows from `size`: the chin lies 2 * size below the nose bridge."""
    points = np.full((68, 2), (x, y), np.float32)
    points[8, 1] = y + 2 * size
    points[48, 0], points[54, 0] = x - size / 2, x + size / 2
    return points
