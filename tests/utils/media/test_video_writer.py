import resource
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.videos import (
    BT709,
    NTSC,
    UNSPECIFIED,
    convert_sound,
    make_sound,
    needs_ffprobe,
    probe,
    psnr,
    scene,
    sound_of,
    write,
)

from utils.errors import UserError
from utils.media.video_reader import VideoReader
from utils.media.video_writer import VideoWriter

# --- writing


@needs_ffprobe
@pytest.mark.parametrize("rate", [Fraction(25), NTSC, Fraction(30), Fraction(60), Fraction(22)])
def test_written_file_as_ffprobe_sees_it(tmp_path, rate):
    sound = make_sound(tmp_path / "a.wav", seconds=3)
    count = round(2 * rate)
    path = write(
        tmp_path / "new" / "a.mp4", count, rate, audio_path=sound, duration=2.0, sample_aspect_ratio=Fraction(4, 3)
    )
    facts = probe(path)
    picture, audio = facts["streams"]
    assert picture["codec_name"] == "h264"
    assert picture["pix_fmt"] == "yuv420p"
    assert (picture["width"], picture["height"]) == (96, 64)
    assert Fraction(picture["r_frame_rate"]) == Fraction(picture["avg_frame_rate"]) == rate
    assert int(picture["nb_read_frames"]) == count
    assert float(picture["start_time"]) == float(audio["start_time"]) == 0
    assert abs(float(picture["duration"]) - 2) < 1 / rate
    assert abs(float(audio["duration"]) - 2) < 0.001
    assert abs(float(facts["format"]["duration"]) - 2) < 1 / rate
    assert (audio["codec_name"], audio["sample_rate"], audio["channels"]) == ("aac", "16000", 1)
    assert picture["sample_aspect_ratio"] == "4:3"
    assert {picture[key] for key in ("color_space", "color_primaries", "color_transfer")} == {"bt709"}
    assert picture["color_range"] == "tv"


def test_written_file_read_back(tmp_path):
    reader = VideoReader(write(tmp_path / "a.mp4", 40, NTSC, crf=10, comment="by hand"))
    assert reader.info.rate == NTSC
    assert reader.info.colour == BT709
    frames = list(reader.frames())
    assert len(frames) == 40
    assert min(psnr(frame.yuv, scene(frame.index)) for frame in frames) > 38
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.metadata["comment"] == "by hand"
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_unspecified_colour_stays_unspecified(tmp_path):
    assert VideoReader(write(tmp_path / "a.mp4", 3, colour=UNSPECIFIED)).info.colour == UNSPECIFIED


@pytest.mark.parametrize(
    ("channels", "rate", "sample_bytes", "codec", "suffix"),
    [
        (1, 16000, 2, None, ".wav"),
        (2, 44100, 3, None, ".wav"),
        (6, 48000, 2, None, ".wav"),
        (3, 37800, 2, None, ".wav"),
        (8, 48000, 2, None, ".wav"),
        (8, 48000, 2, "aac", ".m4a"),
        (2, 96000, 4, None, ".wav"),
        (1, 48000, 2, "pcm_f32le", ".wav"),
        (2, 48000, 2, "flac", ".flac"),
        (1, 44100, 2, "aac", ".m4a"),
        (2, 44100, 2, "libmp3lame", ".mp3"),
        (1, 48000, 2, "libopus", ".ogg"),
    ],
)
def test_sound_of_any_kind_is_in_time(tmp_path, channels, rate, sample_bytes, codec, suffix):
    source = make_sound(tmp_path / "sound.wav", channels, rate, 2.5, sample_bytes)
    if codec is not None:
        source = convert_sound(source, tmp_path / f"coded{suffix}", codec)
    path = write(tmp_path / "a.mp4", 50, audio_path=source, duration=2.0)
    samples, kept_rate = sound_of(path)
    assert samples.shape[0] == min(channels, 2)
    assert kept_rate == (rate if rate in (16000, 44100, 48000) else 48000)
    assert 2.0 <= samples.shape[1] / kept_rate < 2.0 + 1024 / kept_rate + 0.001
    for channel in samples:
        loud = np.flatnonzero(np.abs(channel) > 0.3 * np.abs(channel).max())
        assert abs(loud[0] / kept_rate - 1.0) < 0.004
    assert np.abs(samples).max() > 0.1


def test_sound_from_a_videos_own_track_to_its_end(tmp_path):
    first = write(tmp_path / "first.mp4", 25, audio_path=make_sound(tmp_path / "a.wav"))
    second = write(tmp_path / "second.mp4", 25, audio_path=first)
    samples, rate = sound_of(second)
    assert 2.0 <= samples.shape[1] / rate < 2.07
    assert abs(np.abs(samples[0]).argmax() / rate - 1.0) < 0.004


def test_sound_and_picture_are_interleaved(tmp_path):
    path = write(tmp_path / "a.mp4", 250, audio_path=make_sound(tmp_path / "a.wav", seconds=10))
    with av.open(str(path)) as container:
        times = {"video": 0.0, "audio": 0.0}
        for packet in container.demux():
            if packet.dts is not None:
                times[packet.stream.type] = float(packet.dts * packet.time_base)
                assert abs(times["video"] - times["audio"]) < 1.5


def test_target_appears_only_when_complete(tmp_path):
    path = tmp_path / "a.mp4"
    with VideoWriter(path, 96, 64, Fraction(25), BT709) as writer:
        writer.write(scene(0))
        (partial,) = tmp_path.iterdir()
        assert partial.name.startswith(".a.mp4.") and partial.name.endswith(".partial")
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_and_nothing_lost_if_the_work_fails(tmp_path, error):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"an earlier result")
    with pytest.raises(error), VideoWriter(path, 96, 64, Fraction(25), BT709) as writer:
        writer.write(scene(0))
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert path.read_bytes() == b"an earlier result"


def test_frame_of_another_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be uint8"), VideoWriter(tmp_path / "a.mp4", 96, 64, 25, BT709) as writer:
        writer.write(scene(0, 48, 32))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [3, 200])
def test_full_disk(tmp_path, count):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))
    try:
        with pytest.raises(UserError, match=r"a\.mp4 cannot be written \(File too large") as caught:
            write(tmp_path / "a.mp4", count)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:  # a test run as root is refused nothing
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        with pytest.raises(UserError, match=r"new/a\.mp4 cannot be written \(Permission denied\)"):
            write(tmp_path / "new" / "a.mp4", 1)
    assert not list(tmp_path.iterdir())


def test_places_where_no_file_can_be(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    (tmp_path / "folder.mp4").mkdir()
    for path, problem in [
        (file / "a.mp4", "file is a file"),
        (file / "b" / "a.mp4", "Not a directory"),
        (tmp_path / "folder.mp4", "is a folder"),
    ]:
        with pytest.raises(UserError, match=problem):
            write(path, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.mp4"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"codec": "h264_nonsense"}, "h264_nonsense is not in this build"),
        ({"audio_path": "missing.wav"}, "missing.wav cannot be read as sound"),
        ({"audio_path": "text.wav"}, "text.wav cannot be read as sound"),
        ({"audio_path": "silent.mp4"}, "silent.mp4 has no audio track"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(tmp_path, options, problem):
    (tmp_path / "text.wav").write_text("this is no sound")
    write(tmp_path / "silent.mp4", 2)
    if "audio_path" in options:
        options = {"audio_path": tmp_path / options["audio_path"]}
    with pytest.raises(UserError, match=problem):
        write(tmp_path / "new" / "a.mp4", 1, **options)
    assert not list(tmp_path.glob("new/*"))


@pytest.mark.parametrize(("width", "height"), [(96, 64), (224, 224), (320, 240)])
def test_the_same_frames_make_the_same_file(tmp_path, width, height):
    frames = [scene(index, width, height) for index in range(12)]
    files, ballast = set(), []
    for number in range(8):
        ballast = [*ballast[-3:], np.full(50_000 * (number + 1), 37 * number % 256, np.uint8)]  # memory of other use
        with VideoWriter(tmp_path / "a.mp4", width, height, Fraction(25), BT709) as writer:
            for frame in frames:
                writer.write(frame)
        files.add((tmp_path / "a.mp4").read_bytes())
    assert len(files) == 1
