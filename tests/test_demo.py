"""The weights that ship, on the example that ships: what a new user sees first."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from utils.dubbing.settings import EXAMPLE_SOURCE, SHIPPED_WEIGHTS
from utils.face.analysis import analyze_video
from utils.face.landmarks import MOUTH, lip_opening

ROOT = Path(__file__).parent.parent


def test_without_options_the_example_speaks(tmp_path):
    """As in the README, but in another folder: nothing has to be near."""
    done = subprocess.run([sys.executable, str(ROOT / "inference.py")], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(SHIPPED_WEIGHTS) in done.stderr
    result = tmp_path / "asserts/inference_result/astronaut_facial_dubbing_add_audio.mp4"
    landmarks = tmp_path / "asserts/detected_landmark"
    source, dub = (analyze_video(path, landmark_dir=landmarks) for path in (EXAMPLE_SOURCE, result))
    assert len(dub.reader.times) == 254  # 10.14 s of speech at 25 frames a second
    opening, still = (lip_opening(video.plan.points) for video in (dub, source))
    assert np.isfinite(opening).all(), "a face was lost"
    assert np.std(opening) > 1.5 * np.std(still), "the mouth does not speak"
    # In pauses, weights of another training let the mouth fall apart: its landmarks then collapse to a point.
    mouth = dub.plan.points[:, MOUTH]
    for axis in (0, 1):
        size = np.ptp(mouth[..., axis], axis=1)
        assert size.min() > 0.6 * np.median(size)
