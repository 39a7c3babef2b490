from dataclasses import replace

import numpy as np
import pytest
from helpers.sample_media import BT601

from utils.media.video_parts import PartError, Seam, check_seams, find_parts, read_frames
from utils.media.video_reader import VideoReader
from utils.media.video_writer import EncoderSettings, VideoWriter

FRAMES = 60


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """60 frames of noise that moves, with a key frame every 10 and frames stored in another order than shown."""
    path = tmp_path_factory.mktemp("parts") / "noise.mp4"
    noise = np.random.default_rng(0).integers(30, 200, (96 + FRAMES, 64), np.uint8)
    with VideoWriter(path, 64, 64, 30, BT601, encoder=EncoderSettings(crf=20, gop=10)) as writer:
        for index in range(FRAMES):
            writer.write(noise[index : index + 96])
    return VideoReader(path)


def read(parts, first, end, overlap=1):
    seam = Seam()
    return list(read_frames(parts, first, end, seam, overlap)), seam


def test_parts_are_the_frames_of_one_pass(reader):
    parts = find_parts(reader, 15)
    assert parts.starts == [0, 20, 40]
    whole = list(reader.frames())
    np.testing.assert_array_equal(parts.times, reader.times)
    np.testing.assert_array_equal(parts.timeline(25), reader.timeline(25))
    seams = []
    for first, end in parts.bounds:
        frames, seam = read(parts, first, min(end + 1, FRAMES))
        seams.append(seam)
        assert [frame.index for frame in frames] == list(range(first, min(end + 1, FRAMES)))
        for frame in frames:
            assert frame.time == whole[frame.index].time
            np.testing.assert_array_equal(frame.yuv, whole[frame.index].yuv)
    check_seams(seams)


def test_a_short_video_has_no_parts(reader):
    assert find_parts(reader, 31) is None
    assert find_parts(reader) is None


def test_other_frames_than_promised_are_noticed(reader):
    parts = find_parts(reader, 15)
    with pytest.raises(PartError):
        read(replace(parts, pts=np.delete(parts.pts, 30)), 20, 40)
    with pytest.raises(PartError):
        read(replace(parts, pts=np.append(parts.pts, parts.pts[-1] + 512)), 40, 61)


def test_a_part_that_is_decoded_in_another_way_than_by_its_neighbour_is_noticed(reader):
    parts = find_parts(reader, 15)
    seams = [read(parts, 0, 21)[1], read(parts, 20, 40)[1]]
    seams[1].prints[20] += 1
    with pytest.raises(PartError):
        check_seams(seams)
    with pytest.raises(PartError):  # no frame in both
        check_seams([read(parts, 0, 20)[1], read(parts, 20, 40)[1]])
