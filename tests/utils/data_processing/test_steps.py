"""The steps of data preparation, one by one."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SLOW_TO_LOAD = ("torch", "tensorflow", "numba", "librosa", "scipy", "scenedetect")


def test_a_worker_loads_nothing_slow_before_it_is_needed():
    code = f"import sys, utils.data_processing.steps\nprint([name for name in {SLOW_TO_LOAD!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
