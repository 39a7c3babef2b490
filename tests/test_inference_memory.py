"""Peak memory of a dub does not grow with its length."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.sample_media import write_face_video, write_speech

DUB = """
import resource, sys
from pathlib import Path
from utils.dubbing import DubbingJob, DubbingOptions, LoadSettings, load_dubber
folder, audio = Path(sys.argv[1]), sys.argv[2]
weights = Path("asserts/demo/DINet_demo.pth")
settings = LoadSettings(device="cpu", landmark_dir=folder, pretrained_clip_DINet_path=weights)
# Small batches: how far the stages overlap changes what is in their queues.
dubber = load_dubber(settings, DubbingOptions(batch_size=2))
dubber.dub(DubbingJob(folder / "face.mp4", folder / audio, folder / "out.mp4"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_three_times_the_length_needs_no_more_memory(tmp_path):
    write_face_video(tmp_path / "face.mp4", frames=300, size=256)  # more frames than the reader holds
    project = Path(__file__).parents[1]
    peaks = []
    for seconds in (5, 20, 60):  # the first run detects the landmarks, for both that are compared
        write_speech(tmp_path / f"{seconds}.wav", seconds)
        command = [sys.executable, "-c", DUB, str(tmp_path), f"{seconds}.wav"]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[2] <= 1.2 * peaks[1]
