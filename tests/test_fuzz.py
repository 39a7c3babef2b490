"""Odd inputs for the real scripts: the same in every run; more with tests/fuzz.py itself."""

import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).with_name("fuzz.py")


def run_fuzz(*options: str) -> None:
    done = subprocess.run([sys.executable, FUZZ, *options], capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_odd_inputs_of_two_scripts_end_in_one_line_or_a_right_result():
    run_fuzz("--count", "20", "--seed", "0", "--script", "inference", "export_weights")


@pytest.mark.slow
def test_every_command_line_of_the_fuzzer_succeeds_where_nothing_is_odd():
    # What is left out here runs undisturbed in test_faults.py.
    run_fuzz("--undamaged", "--script", "inference", "benchmark", "app", "train_syncnet", "train_audio_encoder")


@pytest.mark.slow
def test_odd_inputs_of_all_scripts_end_in_one_line_or_a_right_result():
    run_fuzz("--count", "40", "--seed", "1")
