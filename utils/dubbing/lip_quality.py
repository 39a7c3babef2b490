"""Whether generated lips are good enough to be shown, measured against the person's own."""

import numpy as np

COMPONENTS = 10
"""Number of principal components."""
MIN_LIPS = 8
"""With fewer real lips there is no telling what this person's lips can look like."""
MIN_MOTION_RATIO, MAX_MOTION_RATIO = 0.5, 1.25
"""Motion of real lips over that of generated ones: outside, one of the two hardly move."""
MAX_RESIDUAL_RATIO = 1.175
"""Largest residual of generated lips over that of real ones: beyond it this person never has such lips."""


def are_lips_poor(bank: np.ndarray, real: np.ndarray, generated: np.ndarray) -> bool:
    """Whether generated lips move much less than real ones or lie far from their principal components.

    Args:
        bank: lip patches of the person float32 [N, h, w, 3], as soft as the network would generate them.
        real: likewise, of some frames.
        generated: generated ones for the same frames, from speech of any moment.
    """
    if len(bank) < MIN_LIPS:
        return False
    window = patch_window(*bank.shape[1:3])
    pca = _LipPCA(bank, window)
    ratio = pca.motion(real) / max(pca.motion(generated), 1e-6)
    # Frames that the components were not made of have a larger residual than those they were made of.
    half = _LipPCA(bank[::2], window)
    expected = max(half.residual(bank[1::2]).mean(), half.residual(real).mean(), 1e-6)
    is_usual = MIN_MOTION_RATIO <= ratio <= MAX_MOTION_RATIO
    return not is_usual or float(half.residual(generated).mean() / expected) > MAX_RESIDUAL_RATIO


def patch_window(height: int, width: int) -> np.ndarray:
    """Weights of the cells of a lip patch, float32 [h, w]: 1 in the middle, falling to 0 at the edges."""
    x, y = (np.linspace(-1, 1, size) for size in (width, height))
    return np.clip(1 - np.hypot(x[None] ** 2, y[:, None] ** 2), 0, 1).astype(np.float32)


class _LipPCA:
    """Mean and principal components of lip patches.

    Args:
        patches: float32 [N, h, w, 3].
        window: weights of the cells, [h, w].
    """

    def __init__(self, patches: np.ndarray, window: np.ndarray):
        self._shape = patches.shape[1:]
        self._weights = np.sqrt(np.broadcast_to(window[..., None], self._shape)).ravel()
        flat = patches.reshape(len(patches), -1)
        self._mean = flat.mean(0)
        centred = flat - self._mean
        left, values, right = np.linalg.svd(centred * self._weights, full_matrices=False)
        count = min(COMPONENTS, int((values > 0.02 * max(values[0], 1e-6)).sum()))
        self._projection = right[:count] * self._weights
        self._components = (left[:, :count] / values[:count]).T @ centred

    def project(self, patch: np.ndarray) -> np.ndarray:
        """The nearest patch that the components can form, of one patch or of each of [..., h, w, 3]."""
        return (self._mean + self._coefficients(patch) @ self._components).reshape(patch.shape)

    def motion(self, patches: np.ndarray) -> float:
        """Root mean square deviation of patches [N, h, w, 3] from their mean along the components, in levels."""
        return float(np.linalg.norm(self._coefficients(patches).std(0)))

    def residual(self, patches: np.ndarray) -> np.ndarray:
        """Root mean square difference [N] of patches [N, h, w, 3] from their projections, in levels."""
        difference = (patches - self.project(patches)).reshape(len(patches), -1)
        return np.sqrt(((difference * self._weights) ** 2).mean(1))

    def _coefficients(self, patch: np.ndarray) -> np.ndarray:
        return (patch.reshape(*patch.shape[:-3], -1) - self._mean) @ self._projection.T
