import numpy as np
import pytest

from utils.dubbing.face_geometry import smooth_points


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 12])
def test_short_videos_are_smoothed_too(frames):
    points = np.tile(np.arange(136, dtype=np.float32).reshape(1, 68, 2), (frames, 1, 1))
    np.testing.assert_allclose(smooth_points(points, np.zeros(frames, int)), points, rtol=1e-6)
