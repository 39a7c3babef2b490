"""Every script explains itself at once."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))
SLOW_TO_LOAD = ("torch", "tensorflow", "numba", "dlib", "matplotlib")


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_loads_nothing_slow(script):
    code = (
        f"import runpy, sys; sys.argv = [{script!r}, '--help']\n"
        f"try: runpy.run_path({str(ROOT / script)!r}, run_name='__main__')\n"
        f"finally: print([name for name in {SLOW_TO_LOAD!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {script}") and done.stdout.endswith("[]\n")
