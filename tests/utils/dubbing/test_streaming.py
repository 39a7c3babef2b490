"""Live dubbing: the frames of the whole-file way, in time, whatever the blocks."""

import queue
import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.sample_media import write_face_video
from helpers.speech_signal import speech_like

from utils.dubbing import DubbingJob, DubbingOptions, LoadSettings, load_dubber
from utils.dubbing.settings import SHIPPED_MEL_WEIGHTS
from utils.dubbing.streaming import MAX_DELAY
from utils.errors import UserError
from utils.media.audio import Waveform, load_waveform, write_wav
from utils.media.video_reader import VideoReader
from utils.speech.features import KINDS, SpeechFeatures

LOSSLESS = DubbingOptions(crf=0, preset="ultrafast", batch_size=2, blend="feather", silence="keep")


@pytest.fixture(scope="module")
def dubber():
    return load_dubber(LoadSettings(pretrained_clip_DINet_path=SHIPPED_MEL_WEIGHTS, device="cpu", landmark_dir=None))


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """(source of 12 frames, speech of 1.1 s)."""
    folder = tmp_path_factory.mktemp("media")
    write_wav(folder / "speech.wav", Waveform(0.5 * speech_like(1.1), 16000))
    return write_face_video(folder / "face.mp4", frames=12, size=256), folder / "speech.wav"


def blocks(path, size=640):
    samples = load_waveform(path, "--x").samples
    return (samples[start : start + size] for start in range(0, len(samples), size))


@pytest.mark.parametrize(("size", "blend"), [(640, "face"), (5000, "feather")])
def test_same_frames_as_from_the_whole_file(dubber, media, tmp_path, size, blend):
    source, speech = media
    options = replace(LOSSLESS, blend=blend)
    dubber.dub(DubbingJob(source, speech, tmp_path / "whole.mp4"), options)
    whole = [frame.yuv for frame in VideoReader(tmp_path / "whole.mp4").frames()]
    live = list(dubber.stream(blocks(speech, size), source, speech_sample=speech, options=options))
    assert len(live) == len(whole) == 28  # 1.1 s: more than the source has, which is played backward, too
    assert [round(frame.time * 25, 6) for frame in live] == list(range(28))
    original = [frame.yuv for frame in VideoReader(source).frames()]
    assert np.abs(live[5].yuv.astype(int) - original[5]).max() > 20  # it is dubbed at all
    for ours, theirs in zip(live, whole, strict=True):
        difference = np.abs(ours.yuv.astype(int) - theirs)
        assert difference.max() <= 2 and difference.mean() < 1e-3
    assert live[0].rgb.shape == (256, 256, 3)


def test_frames_come_in_time(dubber, media):
    """Each frame is out when 0.4 s of speech after its moment are in, and none waits for the end."""
    source, speech = media
    fed: queue.Queue = queue.Queue()
    frames: queue.Queue = queue.Queue()

    def incoming():
        while (block := fed.get()) is not None:
            yield block

    thread = threading.Thread(
        target=lambda: [frames.put(frame) for frame in dubber.stream(incoming(), source, options=LOSSLESS)], daemon=True
    )
    thread.start()
    seen, heard = [], 0.0
    for block in blocks(speech):
        fed.put(block)
        heard += len(block) / 16000
        while len(seen) < np.floor((heard - MAX_DELAY) * 25 + 1e-6) + 1 and heard >= MAX_DELAY:
            seen.append(frames.get(timeout=60))  # fails where a frame waits for more speech
        time.sleep(0.001)
    fed.put(None)
    thread.join(60)
    assert len(seen) > 10 and not thread.is_alive()
    assert len(seen) + frames.qsize() == 28


def test_who_stops_listening_is_left_alone(dubber, media):
    source, speech = media
    taken = []

    def endless():
        while True:
            for block in blocks(speech):
                taken.append(len(block))
                yield block

    live = dubber.stream(endless(), source, options=LOSSLESS)
    next(live)
    live.close()
    count = len(taken)
    time.sleep(0.3)
    assert len(taken) == count and threading.active_count() < 20


def test_the_example_of_the_document_runs(media, capsys):
    text = (Path(__file__).parents[3] / "docs" / "streaming.md").read_text()
    code = re.search(r"<!-- example.*?```python\n(.*?)```", text, re.DOTALL)[1]
    source, speech = map(str, media)
    code = code.replace("./asserts/demo/DINet_demo_mel.pth", str(SHIPPED_MEL_WEIGHTS))
    code = code.replace("./asserts/example/speech.wav", speech).replace("./asserts/example/astronaut.mp4", source)
    exec(compile(code, "streaming.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 28 and lines[-1] == "1.08 s (256, 256, 3)"


def test_no_sound_is_no_frames(dubber, media):
    assert list(dubber.stream([], media[0], options=LOSSLESS)) == []


def test_other_features_are_refused(dubber, media, monkeypatch):
    kind = KINDS["deepspeech"]
    read = dubber.read_speech
    monkeypatch.setattr(
        dubber,
        "read_speech",
        lambda path: type(read(path))(SpeechFeatures(kind, np.zeros((9, kind.channels), np.float32)), 1.0, path),
    )
    with pytest.raises(
        UserError, match="deepspeech features need the whole recording; live dubbing takes weights for mel"
    ):
        next(dubber.stream([], media[0]))
