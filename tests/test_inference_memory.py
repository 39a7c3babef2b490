"""Peak memory of a dub does not grow with its length."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.sample_media import write_face_video, write_speech

DUB = """
import resource, sys
from pathlib import Path
from test_inference import Echo, read_speech
from utils.dubbing import Dubber, DubbingJob
folder, audio = Path(sys.argv[1]), sys.argv[2]
job = DubbingJob(folder / "face.mp4", folder / audio, folder / "out.mp4")
Dubber(Echo(), read_speech, folder).dub(job)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_four_times_the_length_needs_no_more_memory(tmp_path):
    write_face_video(tmp_path / "face.mp4", frames=300, size=256)  # more frames than the reader holds
    tests = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": str(tests)}
    peaks = []
    for seconds in (2, 10, 40):  # the first run detects the landmarks, for both that are compared
        write_speech(tmp_path / f"{seconds}.wav", seconds)
        command = [sys.executable, "-c", DUB, str(tmp_path), f"{seconds}.wav"]
        done = subprocess.run(command, cwd=tests.parent, env=environment, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[2] <= 1.2 * peaks[1]
