"""The engine as Python code uses it."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest
from helpers.sample_media import write_face_video, write_speech

from utils.dubbing import DubbingJob, DubbingOptions, LoadSettings, load_dubber
from utils.dubbing.settings import SHIPPED_WEIGHTS


def test_paths_may_be_strings_and_the_options_given_once_count(tmp_path):
    write_face_video(tmp_path / "face.mp4", 10)
    write_speech(tmp_path / "speech.wav", 0.5)
    settings = LoadSettings(str(SHIPPED_WEIGHTS), landmark_dir=str(tmp_path / "landmarks"), device="cpu")
    dubber = load_dubber(settings, DubbingOptions(fps=12, blend="hard"))
    assert dubber.options.blend == "hard"
    job = DubbingJob(str(tmp_path / "face.mp4"), str(tmp_path / "speech.wav"), str(tmp_path / "new" / "dubbed.mp4"))
    report = dubber.dub(job)
    assert (report.rate, report.frames) == (Fraction(12), 6)
    assert dubber.dub(job, DubbingOptions(fps="30000/1001")).rate == Fraction(30000, 1001)
    with av.open(str(report.result)) as container:
        assert container.streams.video[0].average_rate == Fraction(30000, 1001)
    assert len(list((tmp_path / "landmarks").iterdir())) == 1


def test_a_wrong_choice_is_refused_as_on_the_command_line():
    with pytest.raises(ValueError, match=r"blend must be one of .*'hard', not 'soft'"):
        DubbingOptions(blend="soft")
    with pytest.raises(ValueError, match="audio_feature must be one of"):
        LoadSettings(audio_feature="mfcc")


def test_the_package_loads_no_pytorch_before_it_is_needed():
    code = "import sys, utils.dubbing; print('torch' in sys.modules, 'numpy' in sys.modules)"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout == "False False\n", done.stderr
