"""Opening media files is the same with every PyAV version."""

import os
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from helpers.videos import convert_sound, make_sound, make_video, scene

from utils.media.container import as_fraction, open_input


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"),
    [(30000, 1001, Fraction(30000, 1001)), (0, 1, Fraction(0)), (0, 0, None)],
)
def test_a_rational_of_any_kind_becomes_a_fraction(numerator, denominator, expected):
    assert as_fraction(SimpleNamespace(numerator=numerator, denominator=denominator)) == expected


def test_no_rational_stays_none():
    assert as_fraction(None) is None


def test_tags_that_are_not_utf8_do_not_matter(tmp_path):
    path = make_sound(tmp_path / "a.wav")
    tag = (
        b"LIST" + (26).to_bytes(4, "little") + b"INFOINAM" + (13).to_bytes(4, "little") + b"caf\xe9 \xff\xfe name.\0\0"
    )
    data = path.read_bytes() + tag
    path.write_bytes(data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:])
    with open_input(path) as container:
        assert "title" in container.metadata


def test_a_playlist_reaches_no_address(tmp_path):
    path = tmp_path / "a.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises((av.FFmpegError, OSError)), open_input(path) as container:
        next(container.decode(video=0))


TARGETS = ["{folder}/secret.mp4", "secret.mp4", "../{name}/secret.mp4", "file:{folder}/secret.mp4", "file:secret.mp4"]
LISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n",
    "variants": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{target}\n",
    "concat": "ffconcat version 1.0\nfile '{target}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\na=control:{target}\n",
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_of_files_opens_no_other_file(tmp_path, kind):
    make_video(tmp_path / "secret.mp4", [scene(0)])
    for target in TARGETS:
        for ending in ("m3u8", "m3u", "mp4", "wav", "ffconcat", "sdp"):
            path = tmp_path / f"a.{ending}"
            path.write_text(LISTS[kind].format(target=target.format(folder=tmp_path, name=tmp_path.name)))
            with pytest.raises((av.FFmpegError, OSError)):
                open_input(path)


def test_a_pattern_in_a_name_is_no_series_of_files(tmp_path):
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"a{number}.png"), np.full((32, 32, 3), number, np.uint8))
    with pytest.raises((av.FFmpegError, OSError)):
        open_input(tmp_path / "a%d.png")
    (tmp_path / "a0.png").rename(tmp_path / "a%d.png")
    with open_input(tmp_path / "a%d.png") as container:
        assert len(list(container.decode(video=0))) == 1


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a:b", b"concat:a|b", b"-i", b"a\nb", "ä漢🎬".encode(), b"x" * 251])
def test_names_that_mean_nothing_to_ffmpeg(tmp_path, name):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name + b".mp4"))
    make_video(tmp_path / "a.mp4", [scene(0)]).rename(path)
    with open_input(path) as container:
        assert len(list(container.decode(video=0))) == 1


@pytest.mark.parametrize("format_name", ["mpegts", "mpeg", "mp3"])
def test_streams_that_are_found_by_reading_on(tmp_path, format_name):
    path = tmp_path / "a"
    if format_name == "mp3":
        convert_sound(make_sound(tmp_path / "a.wav"), tmp_path / "a.mp3", "libmp3lame").rename(path)
    else:
        with av.open(str(path), "w", format=format_name) as container:
            stream = container.add_stream("mpeg2video", 25)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            for index in range(10):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(scene(index), "yuv420p")))
            container.mux(stream.encode(None))
    with open_input(path) as container:
        assert any(True for _ in container.decode())
