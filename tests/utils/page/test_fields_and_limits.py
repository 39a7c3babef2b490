"""What visitors give the page: options with the checks of the command line, files within limits."""

import pytest
from helpers.sample_media import write_face_video, write_speech

from config.inference import RunSettings
from utils.dubbing import DubbingOptions
from utils.errors import UserError
from utils.page.limits import check_length, media_seconds

pytest.importorskip("gradio", reason="needs requirements-app.txt")
from utils.page.option_fields import page_options, read_field

OPTIONS = page_options(DubbingOptions) | page_options(RunSettings)


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("crf", 23, 23),
        ("crf", 23.0, 23),
        ("face", "", None),
        ("face", "2", 2),
        ("fps", "30000/1001", pytest.approx(29.97, abs=0.001)),
        ("fps", None, None),
        ("blend", "hard", "hard"),
        ("reference_frames", " ", None),
        ("save_face_video", True, True),
    ],
)
def test_values(name, given, value):
    assert read_field(OPTIONS[name], given) == value


@pytest.mark.parametrize(
    ("name", "given", "problem"),
    [
        ("crf", 60, "--crf: 60 is not between 0"),
        ("crf", 18.5, "--crf: '18.5' is not a whole number"),
        ("seed", None, "--seed: is empty; its default is 456"),
        ("batch_size", "0", "--batch_size: 0 is not"),
        ("fps", "fast", "--fps: 'fast' is not a frame rate"),
    ],
)
def test_mistakes_name_the_option(name, given, problem):
    with pytest.raises(UserError) as caught:
        read_field(OPTIONS[name], given)
    assert str(caught.value).startswith(problem)


def test_lengths(tmp_path):
    video, sound = write_face_video(tmp_path / "v.mp4", frames=10, size=64), write_speech(tmp_path / "s.wav", 1.5)
    assert media_seconds(video) == pytest.approx(0.4, abs=0.05) and media_seconds(sound) == pytest.approx(1.5)
    assert check_length(sound, 2) == pytest.approx(1.5)
    with pytest.raises(UserError, match=r"^s.wav is 2 s long, at most 1 s are taken; cut it shorter"):
        check_length(sound, 1)
    (tmp_path / "text.mp4").write_text("text")
    with pytest.raises(UserError, match=r"^text.mp4 is no video, picture or audio file"):
        media_seconds(tmp_path / "text.mp4")


def test_a_recording_without_its_length(tmp_path):
    """As browsers write them: WebM as a stream, whose header states no duration."""
    import av
    import numpy as np

    path = tmp_path / "recording.webm"
    with path.open("wb") as file:

        class Stream:
            """A file that cannot be rewound: the length cannot be written later."""

            write = file.write

        with av.open(Stream(), "w", "webm") as container:
            track = container.add_stream("libopus", rate=48000, layout="mono")
            for start in range(0, 48000, 960):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), "fltp", "mono")
                frame.sample_rate, frame.pts = 48000, start
                container.mux(track.encode(frame))
            container.mux(track.encode(None))
    with av.open(str(path)) as container:
        assert not container.duration
    assert media_seconds(path) == pytest.approx(1.0, abs=0.05)
