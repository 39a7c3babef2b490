"""Files that ask for too much are refused in one line, and quickly."""

import os
import subprocess
import sys
import time
import wave
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
from helpers.videos import make_sound, make_video, scene

from utils.errors import UserError
from utils.media.audio import load_waveform
from utils.media.images import image_size, read_image
from utils.media.limits import MediaLimits, current_limits, use_limits
from utils.media.video_reader import VideoReader


def refused(function, words: str) -> None:
    start = time.monotonic()
    with pytest.raises(UserError, match=words):
        function()
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("gap", [10**7, 10**9])
def test_a_video_with_a_gap_of_months(tmp_path, gap):
    rate = Fraction(1)
    path = make_video(tmp_path / "a.mkv", [scene(0), scene(1)], rate, ticks=[0, gap])
    refused(lambda: VideoReader(path, "--x").timeline(Fraction(25)), r"^--x: .* later than 14400 s; .*--max_seconds")
    if gap == 10**7:
        assert len(VideoReader(path, limits=MediaLimits(max_seconds=2e7)).times) == 2


@pytest.mark.parametrize("rate", [1, 200, 2_000_000])
def test_a_wav_of_an_absurd_rate(tmp_path, rate):
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(2_000_000))
    refused(lambda: load_waveform(path, "--x"), r"^--x: .* samples per second, .*--min_sample_rate")


def test_audio_that_is_too_long(tmp_path):
    path = make_sound(tmp_path / "a.wav", seconds=5)
    refused(lambda: load_waveform(path, "--x", limits=MediaLimits(max_seconds=3)), "more than 3 s of audio")
    assert load_waveform(path, "--x", limits=MediaLimits(max_seconds=6)).duration == 5


def test_pictures_that_are_too_large(tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.zeros((1000, 3000, 3), np.uint8))
    limits = MediaLimits(max_pixels=2_999_999)
    refused(lambda: VideoReader(path, "--x", limits), r"^--x: .*--max_pixels")
    assert read_image(path, limits.max_pixels) is None
    assert read_image(path, 3_000_000).shape == (1000, 3000, 3)
    video = make_video(tmp_path / "b.mp4", [scene(0)])
    refused(
        lambda: VideoReader(video, "--x", replace(limits, max_pixels=96 * 64 - 1)), "96 x 64, more than 6143 pixels"
    )
    assert VideoReader(video, "--x", replace(limits, max_pixels=96 * 64)).info.width == 96


@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_the_size_of_a_picture_is_read_from_its_header(ending):
    _, data = cv2.imencode(ending, np.zeros((31, 57, 3), np.uint8))
    assert image_size(data.tobytes()) == (57, 31)
    for cut in range(0, len(data), 7):
        image_size(data[:cut].tobytes())  # raises nothing


def test_a_wav_whose_header_promises_hours(tmp_path):
    path = make_sound(tmp_path / "a.wav", seconds=1)
    data = bytearray(path.read_bytes())
    data[40:44] = (3 * 3600 * 32000).to_bytes(4, "little")
    path.write_bytes(data)
    refused(lambda: load_waveform(path, "--x"), r"says it holds 10800.0 s .*, but only 1.0 s .*: the file was cut off")
    data[40:44] = b"\xff" * 4  # a program that wrote to a pipe
    path.write_bytes(data)
    assert load_waveform(path, "--x").duration == 1


def test_limits_reach_the_processes_that_are_started(monkeypatch):
    monkeypatch.setenv("DINET_MEDIA_LIMITS", "")
    assert current_limits() == MediaLimits()
    limits = MediaLimits(1.5, 100, 2, 3)
    use_limits(limits)
    assert current_limits() == limits
    code = "from utils.media.limits import current_limits; print(current_limits())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert child.stdout.strip() == str(limits)
