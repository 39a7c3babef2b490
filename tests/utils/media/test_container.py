"""Opening media files is the same with every PyAV version."""

from fractions import Fraction
from types import SimpleNamespace

import av
import pytest
from helpers.videos import make_sound

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
