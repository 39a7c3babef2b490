"""Lip patches, drawn."""

import numpy as np

HEIGHT, WIDTH = 44, 52


def lip_patch(opening: float, level: float = 120.0) -> np.ndarray:
    """YUV float32 [h, w, 3] without offsets: a dark ellipse on skin, `opening` cells high."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    inside = ((x - 26) / 14) ** 2 + ((y - 19) / (1 + opening)) ** 2
    luma = level - 80 / (1 + np.exp(np.minimum(8 * (inside - 1), 50)))
    return np.dstack([luma, np.full_like(luma, -8), np.full_like(luma, 20)]).astype(np.float32)


def darkness(patch: np.ndarray) -> float:
    """How much darker a patch is than closed lips."""
    return float((lip_patch(0)[..., 0] - patch[..., 0]).clip(0).sum())
