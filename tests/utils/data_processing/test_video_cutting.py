"""Cutting and resampling keep the picture and put every sound where it was."""

import operator
from collections import Counter
from fractions import Fraction
from functools import partial

import av
import numpy as np
import pytest
from helpers.sample_media import BT601

from utils.data_processing import video_cutting
from utils.data_processing.settings import TimeSpan
from utils.data_processing.video_cutting import (
    check_even,
    cut_video,
    open_training_video,
    resample_video,
)
from utils.errors import UserError
from utils.executors import run_here
from utils.media.audio import Waveform, load_waveform, write_wav
from utils.media.video_parts import PartError, find_parts
from utils.media.video_reader import VideoReader
from utils.media.video_writer import EncoderSettings, VideoWriter

SIZE = 64
FLASHES = (0.6, 1.4, 2.2)
"""Seconds at which the picture turns white and a click sounds."""


def write_flashes(path, rate, seconds=3.0, vfr=False, sound=True, sound_start=0.0, gop=250):
    """A dark picture that lights up for 0.1 s at FLASHES, with a beep of the same length at the same time.

    Not by VideoWriter: time stamps vary with `vfr`, and the sound's track begins at `sound_start` seconds.
    """
    random = np.random.default_rng(0)
    times = np.arange(round(seconds * rate)) / rate
    if vfr:
        times = np.delete(times, random.permutation(np.arange(1, len(times)))[: len(times) // 4])
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate, options={"crf": "10", "preset": "ultrafast", "g": str(gop)})
        video.width = video.height = SIZE
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        if sound:
            audio = container.add_stream("pcm_s16le" if path.suffix == ".mkv" else "aac", 44100, layout="mono")
        for time in times:
            on = any(start <= time + 1e-6 < start + 0.1 for start in FLASHES)
            yuv = np.full((SIZE * 3 // 2, SIZE), 128, np.uint8)
            yuv[:SIZE] = 220 if on else 30
            frame = av.VideoFrame.from_ndarray(yuv, "yuv420p")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound:
            clock = np.arange(round(sound_start * 44100), round(seconds * 44100)) / 44100
            loud = np.any([(clock >= start) & (clock < start + 0.1) for start in FLASHES], axis=0)
            samples = (0.5 * np.sin(2 * np.pi * 440 * clock) * loud).astype(np.float32)
            frame = av.AudioFrame.from_ndarray((samples[None] * 32767).astype(np.int16), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 44100, round(sound_start * 44100), Fraction(1, 44100)
            resampler = av.AudioResampler(audio.format.name, "mono", 44100, frame_size=1024)
            for block in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(audio.encode(block))
            container.mux(audio.encode(None))
    return path


def starts_of_light(path):
    reader = VideoReader(path)
    bright = np.array([frame.luma.mean() > 125 for frame in reader.frames()])
    return reader.times[np.flatnonzero(np.diff(bright.astype(int), prepend=0) > 0)]


def starts_of_sound(path):
    sound = load_waveform(path, "--x")
    envelope = np.abs(sound.samples[: len(sound.samples) // 16 * 16]).reshape(-1, 16).max(axis=1)
    loud = np.convolve(envelope > 0.1, np.ones(20), "full")[: len(envelope)] > 0  # bridges the waves of the tone
    return np.flatnonzero(np.diff(loud.astype(int), prepend=0) > 0) * 16 / sound.rate


@pytest.mark.parametrize(
    ("rate", "vfr", "sound_start", "suffix"),
    [
        (30, False, 0.0, ".mp4"),
        (30, True, 0.0, ".mp4"),
        (24, False, 0.0, ".mp4"),
        (60, True, 0.3, ".mkv"),
        (25, False, 0.3, ".mkv"),
        (30, False, 0.3, ".mp4"),
    ],
)
def test_resampled_picture_and_sound_stay_together(tmp_path, rate, vfr, sound_start, suffix):
    source = write_flashes(tmp_path / f"source{suffix}", rate, vfr=vfr, sound_start=sound_start)
    target = tmp_path / "target.mp4"
    result = resample_video(source, target, crf=12)
    reader = open_training_video(target)
    assert result.frames == len(reader.times) == 75
    check_even(reader)
    np.testing.assert_allclose(starts_of_sound(target), FLASHES, atol=0.01)
    np.testing.assert_allclose(starts_of_light(target), starts_of_light(source), atol=0.021)  # half a tick


@pytest.mark.parametrize("rate", [30, 24, 60])
def test_a_video_resampled_in_parts_is_that_resampled_in_one_piece(tmp_path, monkeypatch, rate):
    source = write_flashes(tmp_path / "source.mp4", rate, gop=12)
    (tmp_path / "parts").mkdir()
    one, parts = tmp_path / "one.mp4", tmp_path / "parts" / "parts.mp4"
    resample_video(source, one, crf=12)
    jobs_of = Counter()

    def run(function, jobs):
        jobs_of.update(job[0].__name__ if function is operator.call else function.__name__ for job in jobs)
        return run_here(function, jobs)

    monkeypatch.setattr(video_cutting, "find_parts", partial(find_parts, part_frames=20))
    monkeypatch.setattr(video_cutting, "MIN_PIECE_FRAMES", 10)
    result = resample_video(source, parts, 12, run)
    assert jobs_of["_write_piece"] >= 3 and not jobs_of["_write_whole"]
    assert [path.name for path in parts.parent.iterdir()] == ["parts.mp4"]
    reader = open_training_video(parts)
    assert result.frames == len(reader.times) == 75
    check_even(reader)
    assert jobs_of["_write_sound"] == 1
    for frame, other in zip(reader.frames(), VideoReader(one).frames(), strict=True):
        np.testing.assert_allclose(frame.luma.astype(float), other.luma, atol=12)
        assert abs(frame.luma.mean() - other.luma.mean()) < 1
    np.testing.assert_array_equal(load_waveform(parts, "--x").samples, load_waveform(one, "--x").samples)
    shown = list(reader.play(reversed(range(75))))  # seeks: the time stamps of the pieces fit together
    assert [frame.index for frame in shown] == list(range(74, -1, -1))


def test_few_pieces_are_halved_at_any_frame(tmp_path, monkeypatch):
    source = write_flashes(tmp_path / "source.mp4", 30, gop=30)
    monkeypatch.setattr(video_cutting, "find_parts", partial(find_parts, part_frames=20))
    monkeypatch.setattr(video_cutting, "MIN_PIECE_FRAMES", 5)
    shown = []
    for few in (16, 0):
        monkeypatch.setattr(video_cutting, "MIN_PIECES", few)
        parts = find_parts(VideoReader(source), 20)
        pieces = video_cutting._pieces(parts.timeline(Fraction(25)), parts)
        resample_video(source, tmp_path / "target.mp4", 12)
        shown.append((len(pieces), [frame.luma.mean() for frame in VideoReader(tmp_path / "target.mp4").frames()]))
        (tmp_path / "target.mp4").unlink()
    (halved, one), (whole, other) = shown
    assert halved == 2 * whole > 2
    np.testing.assert_allclose(one, other, atol=1)


def test_a_frame_that_is_shown_for_long_is_not_halved():
    order = np.full(200, 7)
    assert len(video_cutting._halves(0, 8, order)) == 1
    (start, middle, before), (again, end, after) = video_cutting._halves(0, 300, np.arange(300))
    assert (start, middle - 1, again, end) == (0, 150, 150, 300)
    assert before.tolist() + after.tolist() == list(range(300))


def test_parts_that_are_not_as_promised_are_made_in_one_piece(tmp_path, monkeypatch):
    source = write_flashes(tmp_path / "source.mp4", 30, gop=12)
    one, other = tmp_path / "one.mp4", tmp_path / "other.mp4"
    resample_video(source, one, crf=12)

    def run(function, jobs):
        if function is operator.call:
            raise PartError
        return run_here(function, jobs)

    monkeypatch.setattr(video_cutting, "find_parts", partial(find_parts, part_frames=20))
    resample_video(source, other, 12, run)
    assert other.read_bytes() == one.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.mp4", "other.mp4", "source.mp4"]


def test_a_video_at_25_fps_is_not_encoded_again(tmp_path):
    source = write_flashes(tmp_path / "source.mp4", 25)
    resample_video(source, tmp_path / "target.mp4", crf=12)
    assert (tmp_path / "target.mp4").read_bytes() == source.read_bytes()


def test_frames_that_come_unevenly_are_noticed_and_resampled(tmp_path):
    source = write_flashes(tmp_path / "source.mp4", 25, vfr=True)
    reader = VideoReader(source)
    with pytest.raises(UserError, match="resample_video"):
        check_even(reader)
    resample_video(source, tmp_path / "target.mp4", crf=12)
    check_even(open_training_video(tmp_path / "target.mp4"))


def test_a_cut_is_exact_to_the_frame_with_its_sound(tmp_path):
    numbered = tmp_path / "numbered.mp4"
    rate = Fraction(30)
    clock = np.arange(4 * 48000) / 48000
    ramp = (0.5 * np.sin(2 * np.pi * 440 * clock) * (clock >= 1.5)).astype(np.float32)
    write_wav(tmp_path / "ramp.wav", Waveform(ramp, 48000))
    with VideoWriter(
        numbered, SIZE, SIZE, rate, BT601, encoder=EncoderSettings(10), audio_path=tmp_path / "ramp.wav"
    ) as writer:
        for index in range(120):
            writer.write(np.full((SIZE * 3 // 2, SIZE), 20 + index, np.uint8))
    target = tmp_path / "part.mp4"
    count = cut_video(numbered, TimeSpan(1, 3), target, None, crf=10)
    part = VideoReader(target)
    values = [int(np.median(frame.luma)) for frame in part.frames()]
    assert part.info.rate == rate and count == 60
    np.testing.assert_allclose(values, np.arange(50, 110), atol=1)
    sound = load_waveform(target, "--x")
    assert sound.duration == pytest.approx(2, abs=0.03)
    assert np.flatnonzero(np.abs(sound.samples) > 0.1)[0] / sound.rate == pytest.approx(0.5, abs=0.005)
    assert not target.with_suffix(".wav").exists()


def test_a_part_after_the_end_is_an_error_and_one_over_the_end_is_cut_short(tmp_path):
    source = write_flashes(tmp_path / "source.mp4", 30, sound=False)
    assert cut_video(source, TimeSpan(2, 60), tmp_path / "a.mp4", Fraction(30), crf=20) == 30
    with pytest.raises(UserError, match=r"ends after 3\.0 s"):
        cut_video(source, TimeSpan(5, 60), tmp_path / "b.mp4", Fraction(30), crf=20)
    assert not (tmp_path / "b.mp4").exists()
