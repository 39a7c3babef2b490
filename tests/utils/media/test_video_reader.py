import gc
import itertools
import logging
import shutil
import subprocess
import tempfile
import weakref
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.videos import (
    BT709,
    LUMA_WEIGHTS,
    NTSC,
    PLAIN,
    UNSPECIFIED,
    convert_sound,
    decoded,
    make_sound,
    make_video,
    needs_ffprobe,
    probe,
    psnr,
    scene,
    smooth_rgb,
    sound_of,
    write,
)

from utils.errors import UserError
from utils.media import video_reader
from utils.media.video_reader import VideoReader
from utils.media.video_writer import EncoderSettings, VideoWriter
from utils.media.yuv import Colour, rgb_patch, set_rgb_patch

# --- reading: counts, rates, times


@pytest.mark.parametrize(
    ("name", "codec", "rate", "pix_fmt"),
    [
        ("a.avi", "mpeg4", Fraction(25), "yuv420p"),
        ("a.mp4", "libx264", Fraction(25), "yuv420p"),
        ("b.mp4", "libx264", Fraction(30), "yuv420p"),
        ("c.mp4", "libx264", NTSC, "yuv420p"),
        ("a.mov", "libx264", Fraction(50), "yuv420p"),
        ("d.mp4", "libx264", Fraction(60), "yuv420p"),
        ("e.mp4", "libx264", Fraction(25, 2), "yuv420p"),
        ("a.mkv", "libvpx-vp9", NTSC, "yuv420p"),
        ("b.mkv", "mjpeg", Fraction(30), "yuvj420p"),
        ("a.ts", "mpeg2video", Fraction(25), "yuv420p"),
        ("a.h264", "libx264", Fraction(25), "yuv420p"),
    ],
)
def test_constant_rate_is_kept_and_its_timeline_is_the_identity(tmp_path, name, codec, rate, pix_fmt):
    options = {"libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"}}.get(codec, {"qmax": "4"})
    options = PLAIN if codec == "libx264" else options
    path = make_video(tmp_path / name, [scene(i) for i in range(33)], rate, codec, options, pix_fmt=pix_fmt)
    reader = VideoReader(path)
    frames = list(reader.frames())
    assert reader.info.rate == rate
    assert (reader.info.width, reader.info.height) == (96, 64)
    assert not reader.info.is_still
    assert not reader.info.has_audio
    assert [frame.index for frame in frames] == list(range(33))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(33) / float(rate), atol=1e-3)
    np.testing.assert_array_equal(reader.times, [frame.time for frame in frames])
    np.testing.assert_array_equal(reader.timeline(rate), np.arange(33))
    # The number of a picture is in its upper quarter.
    assert all(abs(float(f.luma[4:12, 4:90].mean()) - (30 + f.index * 37 % 200)) < 6 for f in frames)


def test_times_without_a_pass_equal_those_of_a_pass(tmp_path):
    path = make_video(tmp_path / "a.mp4", [scene(i) for i in range(20)], ticks=[i + i // 3 for i in range(20)])
    scanned, read = VideoReader(path), VideoReader(path)
    times = [frame.time for frame in read.frames()]
    np.testing.assert_array_equal(scanned.times, times)


def test_variable_rate_is_sampled_as_by_ffmpegs_fps_filter(tmp_path):
    ticks = [tick for tick in range(120) if tick % 7 not in (2, 3) and not 40 < tick < 60]
    path = make_video(tmp_path / "vfr.mp4", [scene(i) for i in range(len(ticks))], Fraction(30), ticks=ticks)
    reader = VideoReader(path)
    np.testing.assert_allclose([frame.time for frame in reader.frames()], np.array(ticks) / 30, atol=1e-4)
    for rate in (Fraction(30), Fraction(25), Fraction(60), Fraction(10)):
        graph = av.filter.Graph()
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            source = graph.add_buffer(template=stream)
            graph.link_nodes(source, graph.add("fps", str(rate)), graph.add("buffersink")).configure()
            numbers = {}
            for number, frame in enumerate(container.decode(stream)):
                numbers[bytes(frame.planes[0])] = number
                graph.push(frame)
        graph.push(None)
        expected = []
        while True:
            try:
                expected.append(numbers[bytes(graph.pull().planes[0])])
            except EOFError:
                break
        timeline = reader.timeline(rate)
        assert len(timeline) == round((reader.times[-1] + 1 / reader.info.rate) * rate)
        assert abs(len(timeline) - len(expected)) <= rate / reader.info.rate + 1
        common = min(len(timeline), len(expected))
        np.testing.assert_array_equal(timeline[:common], expected[:common])


def test_frames_without_time_stamps_follow_the_rate(tmp_path):
    reader = VideoReader(make_video(tmp_path / "raw.h264", [scene(i) for i in range(12)]))
    np.testing.assert_allclose(reader.times, np.arange(12) / 25)


# --- reading: pixels


def test_plain_yuv_is_passed_through_bit_exactly(tmp_path):
    path = make_video(tmp_path / "a.mp4", [scene(i) for i in range(10)])
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray() for frame in container.decode(video=0)]
    for frame, yuv in zip(VideoReader(path).frames(), expected, strict=True):
        np.testing.assert_array_equal(frame.yuv, yuv)


def test_frames_cannot_be_drawn_on(tmp_path):
    frame = next(VideoReader(make_video(tmp_path / "a.mp4", [scene(0)])).frames())
    with pytest.raises(ValueError, match="read-only"):
        set_rgb_patch(frame.yuv, 0, 0, smooth_rgb(), UNSPECIFIED)


def yuv_picture(rgb: np.ndarray, pix_fmt: str, matrix: int, bits: int, full: bool, step: tuple[int, int]):
    """`rgb` as planar YUV by the formulas of the standards."""
    red, blue = LUMA_WEIGHTS[matrix]
    r, g, b = np.moveaxis(rgb / 255.0, -1, 0)
    luma = red * r + (1 - red - blue) * g + blue * b
    chroma = [(b - luma) / (2 - 2 * blue), (r - luma) / (2 - 2 * red)]
    chroma = [sum(c[i :: step[0], j :: step[1]] for i in range(step[0]) for j in range(step[1])) for c in chroma]
    scale = 2 ** (bits - 8)
    top = 2**bits - 1
    planes = [luma * top if full else (16 + 219 * luma) * scale]
    for plane in chroma:
        plane = plane / (step[0] * step[1])
        planes.append(128 * scale + plane * (top if full else 224 * scale))
    frame = av.VideoFrame(rgb.shape[1], rgb.shape[0], pix_fmt)
    for target, plane in zip(frame.planes, planes, strict=True):
        lines = np.zeros((plane.shape[0], target.line_size // (1 + (bits > 8))), np.uint16 if bits > 8 else np.uint8)
        lines[:, : plane.shape[1]] = plane.round()
        target.update(lines.tobytes())
    return frame


@pytest.mark.parametrize(
    ("pix_fmt", "matrix", "bits", "full", "step"),
    [
        ("yuv420p", 1, 8, False, (2, 2)),
        ("yuv420p", 6, 8, False, (2, 2)),
        ("yuv420p", 2, 8, False, (2, 2)),
        ("yuv420p", 1, 8, True, (2, 2)),
        ("yuv422p", 1, 8, False, (1, 2)),
        ("yuv444p", 6, 8, True, (1, 1)),
        ("yuv420p10le", 9, 10, False, (2, 2)),
        ("yuv422p10le", 1, 10, False, (1, 2)),
        ("yuv444p10le", 1, 10, True, (1, 1)),
    ],
)
def test_every_kind_of_yuv_gives_the_right_rgb(tmp_path, pix_fmt, matrix, bits, full, step):
    picture = yuv_picture(smooth_rgb(), pix_fmt, matrix, bits, full, step)
    tags = {"colorspace": matrix, "color_primaries": matrix, "color_trc": matrix, "color_range": 2 if full else 1}
    path = make_video(tmp_path / "a.mkv", [picture], codec="ffv1", pix_fmt=pix_fmt, **tags)
    reader = VideoReader(path)
    frame = next(reader.frames())
    assert reader.info.colour == Colour(matrix, matrix, matrix)
    assert frame.yuv.dtype == np.uint8
    assert frame.yuv.shape == (96, 96)
    assert psnr(rgb_patch(frame.yuv, 0, 64, 0, 96, reader.info.colour), smooth_rgb()) > 42


@pytest.mark.parametrize(("name", "codec", "pix_fmt"), [("a.mkv", "ffv1", "bgr0"), ("a.png", "png", "rgb24")])
def test_rgb_becomes_bt709(tmp_path, name, codec, pix_fmt):
    picture = av.VideoFrame.from_ndarray(smooth_rgb(), "rgb24").reformat(format=pix_fmt)
    reader = VideoReader(make_video(tmp_path / name, [picture], codec=codec, pix_fmt=pix_fmt))
    frame = next(reader.frames())
    assert reader.info.colour == BT709
    assert psnr(rgb_patch(frame.yuv, 0, 64, 0, 96, BT709), smooth_rgb()) > 42


def test_a_phones_picture_is_still(tmp_path):
    """HEIF files are demuxed as a video of one frame a second."""
    pillow = pytest.importorskip("PIL.Image")
    if not pytest.importorskip("PIL.features").check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    pillow.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(tmp_path / "a.avif")
    info = VideoReader(tmp_path / "a.avif").info
    assert info.is_still and info.rate == 25


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_still_picture(tmp_path, suffix):
    path = tmp_path / f"face%03d{suffix}"  # not to be taken for a pattern of file names
    av.VideoFrame.from_ndarray(smooth_rgb(97, 65), "rgb24").save(str(path))
    reader = VideoReader(path)
    (frame,) = reader.frames()
    assert reader.info.is_still
    assert reader.info.rate == 25
    assert (reader.info.width, reader.info.height) == (98, 66)
    np.testing.assert_array_equal(reader.timeline(Fraction(25)), [0])
    np.testing.assert_array_equal([f.index for f in reader.play([0] * 50)], [0] * 50)
    assert psnr(rgb_patch(frame.yuv, 0, 66, 0, 98, reader.info.colour)[:65, :97], smooth_rgb(97, 65)) > 35


def test_odd_size_becomes_even_by_repeating_the_edge(tmp_path):
    picture = av.VideoFrame.from_ndarray(smooth_rgb(97, 65), "rgb24").reformat(format="yuv444p")
    path = make_video(tmp_path / "odd.mp4", [picture] * 3, pix_fmt="yuv444p", options={"crf": "1"})
    reader = VideoReader(path)
    frames = list(reader.frames())
    assert (frames[0].width, frames[0].height) == (reader.info.width, reader.info.height) == (98, 66)
    np.testing.assert_array_equal(frames[0].luma[:, 97], frames[0].luma[:, 96])
    np.testing.assert_array_equal(frames[0].luma[65], frames[0].luma[64])


@pytest.mark.parametrize(("rotation", "mirror"), [(90, False), (180, False), (-90, False), (0, True), (90, True)])
def test_display_matrix_is_applied(tmp_path, rotation, mirror):
    pictures = [scene(i) for i in range(3)]
    plain = make_video(tmp_path / "plain.mp4", pictures, sample_aspect_ratio=Fraction(4, 3))
    turned = make_video(
        tmp_path / "a.mp4", pictures, rotation=rotation, mirror=mirror, sample_aspect_ratio=Fraction(4, 3)
    )
    reader = VideoReader(turned)
    for frame, upright in zip(VideoReader(plain).frames(), reader.frames(), strict=True):
        luma = np.rot90(frame.luma, rotation // 90)
        expected = luma[:, ::-1] if mirror else luma
        np.testing.assert_array_equal(upright.luma, expected)
    sideways = rotation % 180 != 0
    assert (reader.info.width, reader.info.height) == ((64, 96) if sideways else (96, 64))
    assert reader.info.sample_aspect_ratio == (Fraction(3, 4) if sideways else Fraction(4, 3))
    if shutil.which("ffmpeg"):
        command = ["ffmpeg", "-v", "error", "-i", str(turned), "-frames:v", "1", "-f", "rawvideo", "-"]
        raw = subprocess.run(command, capture_output=True, check=True).stdout
        np.testing.assert_array_equal(np.frombuffer(raw, np.uint8), next(reader.frames()).yuv.reshape(-1))


def test_exif_orientation_of_a_photograph_is_applied(tmp_path):
    plain, turned = tmp_path / "plain.jpg", tmp_path / "turned.jpg"
    av.VideoFrame.from_ndarray(smooth_rgb(), "rgb24").save(str(plain))
    # APP1 with a single tag: orientation (0x112) = 6, a quarter turn clockwise to be seen upright
    tiff = b"MM\0*\0\0\0\x08" + b"\0\x01" + b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + b"\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    data = plain.read_bytes()
    turned.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    (frame,), (upright,) = VideoReader(plain).frames(), VideoReader(turned).frames()
    np.testing.assert_array_equal(upright.luma, np.rot90(frame.luma, -1))


# --- reading: files in a bad state


def faststart_video(path: Path, count: int = 60) -> Path:
    with VideoWriter(
        path, 96, 64, Fraction(25), UNSPECIFIED, encoder=EncoderSettings(preset="ultrafast", gop=12)
    ) as writer:
        for index in range(count):
            writer.write(scene(index))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_truncated_file_gives_the_frames_that_are_there(tmp_path, suffix):
    path = tmp_path / f"whole{suffix}"
    if suffix == ".mp4":
        faststart_video(path)
    else:
        make_video(path, [scene(i) for i in range(60)], codec="mpeg4", options={"qmax": "4"})
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    whole, part = decoded(path), decoded(cut)
    assert 25 <= len(part) < 60
    assert part == whole[: len(part)]


def test_damaged_packets_are_left_out_with_one_warning(tmp_path, caplog):
    path = make_video(tmp_path / "a.mkv", [scene(i) for i in range(30)], codec="mjpeg", pix_fmt="yuvj420p")
    whole = decoded(path)
    data = bytearray(path.read_bytes())
    starts = [i for i in range(len(data) - 3) if data[i : i + 3] == b"\xff\xd8\xff"]
    assert len(starts) == 30
    for number in (7, 19):
        data[starts[number] : starts[number + 1] - 30] = bytes(starts[number + 1] - 30 - starts[number])
    path.write_bytes(data)
    reader = VideoReader(path)
    with caplog.at_level(logging.WARNING):
        frames = [frame.yuv.tobytes() for frame in reader.frames()]
        list(reader.frames())
    assert frames == [whole[i] for i in range(30) if i not in (7, 19)]
    assert [record.message for record in caplog.records] == [f"{path}: 2 damaged packet(s) left out; 28 frames decoded"]


def with_cover(path: Path, pictures: list[np.ndarray]) -> Path:
    """A file with a cover picture as its first track, sound, and a video track if there are pictures for it."""
    cover_file = path.with_suffix(".jpg")
    av.VideoFrame.from_ndarray(smooth_rgb(48, 32), "rgb24").save(str(cover_file))
    with av.open(str(path), "w") as container, av.open(str(make_sound(path.with_suffix(".wav")))) as reader:
        cover = container.add_mux_stream("mjpeg", 25, width=48, height=32)
        cover.disposition = av.stream.Disposition.attached_pic
        audio = container.add_stream("aac", 16000, layout="mono")
        if pictures:
            stream = container.add_stream("libx264", 25, options=PLAIN)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        container.start_encoding()
        packet = av.Packet(cover_file.read_bytes())
        packet.stream, packet.pts, packet.dts, packet.time_base = cover, 0, 0, Fraction(1, 25)
        container.mux(packet)
        for frame in reader.decode(audio=0):
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "yuv420p")))
        if pictures:
            container.mux(stream.encode(None))
    return path


def bad_source(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.mp4"
    if kind == "text":
        path.write_text("this is no video\n" * 50)
    elif kind == "subtitles":
        path.write_text("1\n00:00:01,000 --> 00:00:02,000\nhello\n")
    elif kind == "textual-picture":
        path = folder / "text.png"
        path.write_text("this is no picture\n" * 50)
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(20000))
    elif kind == "headless":  # the index of an ordinary mp4 is at its end
        data = make_video(path, [scene(i) for i in range(30)]).read_bytes()
        path.write_bytes(data[: len(data) // 2])
    elif kind == "sound":
        convert_sound(make_sound(folder / "a.wav"), path, "aac")
    elif kind == "cover":
        with_cover(path, [])
    return path


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("missing", "does not exist"),
        ("folder", "folder"),
        ("empty", "empty"),
        ("text", "no video or picture"),
        ("noise", "no video or picture"),
        ("headless", "cut short"),
        ("textual-picture", "no video or picture"),
        ("subtitles", "no video or picture"),
        ("sound", "has no picture"),
        ("cover", "has no picture"),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(tmp_path, kind, problem):
    path = bad_source(kind, tmp_path)
    with pytest.raises(UserError, match=problem) as caught:
        VideoReader(path, "--some_option")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"--some_option: {path}")


def test_the_cover_picture_of_a_video_is_not_its_picture(tmp_path):
    reader = VideoReader(with_cover(tmp_path / "a.mp4", [scene(i) for i in range(5)]))
    assert (reader.info.width, reader.info.height) == (96, 64)
    assert reader.info.has_audio
    assert len(list(reader.frames())) == 5


def test_metadata_that_is_no_utf8_does_no_harm(tmp_path):
    path = write(tmp_path / "a.mp4", 3, audio_path=make_sound(tmp_path / "a.wav"), comment="TAG TAG")
    path.write_bytes(path.read_bytes().replace(b"TAG TAG", b"\xe9\xff\xfe\xe9\xe9\xe9\xe9"))
    assert len(list(VideoReader(path).frames())) == 3
    assert sound_of(write(tmp_path / "b.mp4", 3, audio_path=path))[1] == 16000


# --- playing in any order


def forward_backward(count: int, length: int) -> list[int]:
    lap = [*range(count), *range(count - 1, -1, -1)]
    return list(itertools.islice(itertools.cycle(lap), length))


@pytest.fixture(scope="module")
def long_gop(tmp_path_factory) -> Path:
    options = {"crf": "25", "preset": "ultrafast", "x264-params": "keyint=1000:scenecut=0:bframes=2"}
    return make_video(tmp_path_factory.mktemp("long") / "a.mp4", [scene(i) for i in range(150)], options=options)


@pytest.fixture(scope="module")
def short_gop(tmp_path_factory) -> Path:
    options = {"crf": "25", "preset": "ultrafast", "x264-params": "keyint=12:open-gop=1:scenecut=0:bframes=2"}
    return make_video(tmp_path_factory.mktemp("short") / "a.mp4", [scene(i) for i in range(150)], options=options)


ORDERS = {
    "forward and backward": forward_backward(150, 500),
    "starting inside, with repeats": [i // 2 for i in [*range(100, 260), *range(259, 60, -1), *range(60, 90)]],
    "loops and jumps": [*range(140, 150), *range(150), 5, 120, 7, 149, 149, 0, *range(40, 60)],
}


@pytest.fixture
def no_copy(monkeypatch):
    """Fail where playing falls back on a temporary copy."""

    def refuse(*_: object) -> None:
        raise AssertionError("a copy was made of a file that can be sought")

    monkeypatch.setattr(VideoReader, "_seekable_copy", refuse)


@pytest.mark.usefixtures("no_copy")
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("source", ["long_gop", "short_gop"])
def test_play_gives_the_very_frames_of_a_forward_pass(request, monkeypatch, source, order):
    monkeypatch.setattr(video_reader, "PLAY_FRAMES", 16)
    path = request.getfixturevalue(source)
    expected = decoded(path)
    reader = VideoReader(path)
    played = [(frame.index, frame.time, frame.yuv.tobytes()) for frame in reader.play(order)]
    assert played == [(index, reader.times[index], expected[index]) for index in order]


@pytest.mark.usefixtures("no_copy")
@pytest.mark.parametrize(("name", "codec"), [("a.ts", "libx264"), ("a.avi", "mpeg4"), ("a.webm", "libvpx-vp9")])
def test_play_in_other_containers(tmp_path, monkeypatch, name, codec):
    monkeypatch.setattr(video_reader, "PLAY_FRAMES", 16)
    options = {"libx264": PLAIN | {"g": "10"}, "mpeg4": {"bf": "2"}, "libvpx-vp9": {"deadline": "realtime", "g": "20"}}
    path = make_video(tmp_path / name, [scene(i) for i in range(60)], codec=codec, options=options[codec])
    expected = decoded(path)
    order = forward_backward(60, 200)
    assert [frame.yuv.tobytes() for frame in VideoReader(path).play(order)] == [expected[i] for i in order]


@pytest.mark.parametrize("why", ["no time stamps", "key frames too far apart"])
def test_play_of_what_cannot_be_sought_goes_through_a_temporary_copy(tmp_path, monkeypatch, why):
    monkeypatch.setattr(video_reader, "PLAY_FRAMES", 16)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    if why == "no time stamps":
        path = make_video(tmp_path / "a.h264", [scene(i) for i in range(60)], options=PLAIN | {"g": "10"})
    else:
        monkeypatch.setattr(video_reader, "MAX_APPROACH_FRAMES", 20)
        path = make_video(tmp_path / "a.mp4", [scene(i) for i in range(60)], options=PLAIN | {"g": "1000"})
    expected = decoded(path)
    reader = VideoReader(path)
    order = forward_backward(60, 150)
    copies = []
    played = []
    for frame in reader.play(order):
        copies += (tmp_path / "temporary").glob("*/copy.mp4")
        played.append((frame.index, frame.time, frame.yuv.tobytes()))
    assert played == [(i, reader.times[i], expected[i]) for i in order]
    assert copies
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize("source", ["long_gop", "short_gop"])
def test_play_holds_a_bounded_number_of_frames(request, monkeypatch, source):
    monkeypatch.setattr(video_reader, "PLAY_BYTES", 20 * 96 * 96)
    alive, most = 0, 0

    def died() -> None:
        nonlocal alive
        alive -= 1

    convert = VideoReader.to_i420

    def counted(self: VideoReader, picture: av.VideoFrame) -> np.ndarray:
        nonlocal alive, most
        yuv = convert(self, picture)
        alive += 1
        most = max(most, alive)
        weakref.finalize(yuv, died)
        return yuv

    monkeypatch.setattr(VideoReader, "to_i420", counted)
    reader = VideoReader(request.getfixturevalue(source))
    assert sum(1 for _ in reader.play(forward_backward(150, 700))) == 700
    gc.collect()
    assert 20 <= most <= 22
    assert alive == 0


def test_play_decodes_a_short_clip_once_however_long_the_order(tmp_path, monkeypatch):
    reader = VideoReader(make_video(tmp_path / "a.mp4", [scene(i) for i in range(20)]))
    expected = [frame.yuv.tobytes() for frame in reader.frames()]
    opened = []
    track = video_reader.Track
    monkeypatch.setattr(video_reader, "Track", lambda *arguments: opened.append(arguments) or track(*arguments))
    order = (i % 20 for i in itertools.count())  # endless
    for index, frame in zip(range(2000), reader.play(order), strict=False):
        assert frame.index == index % 20
        assert frame.yuv.tobytes() == expected[index % 20]
    assert len(opened) == 1


def test_play_refuses_a_frame_that_is_not_there(short_gop, monkeypatch):
    monkeypatch.setattr(video_reader, "PLAY_FRAMES", 16)
    with pytest.raises(IndexError, match="no frame 150"):
        list(VideoReader(short_gop).play([149, 150]))


# --- real clips


@pytest.mark.clips
def test_clip_of_variable_rate(clips_dir):
    reader = VideoReader(clips_dir / "man_suit_700_vfr.mp4")
    assert reader.info.rate == 22
    assert len(reader.times) == 135
    timeline = reader.timeline(reader.info.rate)
    assert abs(len(timeline) / 22 - 6.1) < 1 / 22
    assert set(np.diff(timeline)) <= {0, 1, 2, 3}


@pytest.mark.clips
@pytest.mark.slow
@needs_ffprobe
def test_clips_have_the_frames_that_ffprobe_counts(clips_dir):
    for path in sorted(clips_dir.glob("*.mp4")):
        counted = int(next(s for s in probe(path)["streams"] if s["codec_type"] == "video")["nb_read_frames"])
        assert len(VideoReader(path).times) == counted, path.name
