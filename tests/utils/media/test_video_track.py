from fractions import Fraction

import av
import numpy as np
import pytest
from helpers.videos import (
    NTSC,
)

from utils.media.video_reader import VideoReader
from utils.media.video_track import nominal_rate


@pytest.mark.parametrize(
    ("average", "base", "expected"),
    [
        (Fraction(1350, 61), Fraction(30), Fraction(22)),  # man_suit_700_vfr.mp4
        (Fraction(108300, 3673), NTSC, NTSC),  # selfie_woman_544x960_vfr.mp4
        (Fraction(2983, 100), Fraction(90000), NTSC),  # a telephone, on the clock of its container
        (Fraction(2997, 100), Fraction(2997, 100), NTSC),
        (Fraction(1000000, 33333), Fraction(1000000, 33333), Fraction(30)),
        (Fraction(25), Fraction(50), Fraction(25)),  # interlaced
        (Fraction(15), Fraction(15), Fraction(15)),
        (Fraction(120), Fraction(120), Fraction(120)),
        (Fraction(58), Fraction(1000), Fraction(60000, 1001)),
        (Fraction(1, 3), Fraction(1000), Fraction(1)),
        (None, None, Fraction(25)),
    ],
)
def test_nominal_rate(average, base, expected):
    assert nominal_rate(average, base) == expected


@pytest.mark.parametrize("rate", [25, 30, 12])
def test_a_recording_of_a_browser_has_the_rate_of_its_time_stamps(tmp_path, rate):
    """WebM written as a stream, without a length, at uneven times: its header and its first frames tell nothing."""
    path = tmp_path / "recording.webm"
    random = np.random.default_rng(0)
    times = [0, 1, 2, 3] + [round(1000 * n / rate + random.uniform(-8, 8)) for n in range(4, 3 * rate)]
    with path.open("wb") as file:

        class Stream:
            """A file that cannot be rewound: the length cannot be written later."""

            write = file.write

        with av.open(Stream(), "w", "webm") as container:
            track = container.add_stream("libvpx", rate=1000)
            track.width, track.height, track.pix_fmt = 64, 64, "yuv420p"
            for time in times:
                frame = av.VideoFrame.from_ndarray(np.full((96, 64), time % 200, np.uint8), "yuv420p")
                frame.pts, frame.time_base = time, Fraction(1, 1000)
                container.mux(track.encode(frame))
            container.mux(track.encode(None))
    with av.open(str(path)) as container:
        assert container.duration is None and container.streams.video[0].average_rate != rate
    reader = VideoReader(path)
    assert float(reader.info.rate) == pytest.approx(rate, rel=0.1) and len(list(reader.frames())) == len(times)
    assert len(reader.timeline(reader.info.rate)) == pytest.approx(3 * float(reader.info.rate), abs=1)
