"""Dubs of real clips: every kind of source that users have."""

import json
import shutil
import subprocess
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import torch
from test_inference import Echo, read_speech

from utils.dubbing import Dubber, DubbingJob, DubbingOptions
from utils.face.analysis import analyze_video
from utils.media.video_reader import VideoReader

pytestmark = pytest.mark.clips

CASES = {  # source: (driving audio, rate of the result)
    "hdtf_man_glasses_512.mp4": ("woman_address_512.mp4", Fraction(25)),
    "stage_woman_256_30fps.mp4": ("woman_address_512.mp4", Fraction(30)),
    "man_suit_700_vfr.mp4": ("woman_address_512.mp4", None),
    "seated_woman_1080x1920.mp4": ("studio_actor_1080p_30fps.mp4", Fraction(25)),
    "silent_face_1280x720_30fps.mp4": ("woman_address_512.mp4", Fraction(30)),
    "openface_640x480.mp4": ("woman_address_512.mp4", Fraction(25)),
}


class Noise(Echo):
    """What an untrained network paints."""

    def __call__(self, crops, audio, first_row=0):
        return torch.rand(crops.shape, generator=torch.Generator().manual_seed(0))


def probe(path):
    """Facts about a video by a reader that is not ours: ffprobe, or PyAV's bare container where it is missing."""
    if shutil.which("ffprobe"):
        command = ["ffprobe", "-v", "error", "-show_streams", "-count_frames", "-of", "json", str(path)]
        streams = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["streams"]
        video = next(stream for stream in streams if stream["codec_type"] == "video")
        audio = next(stream for stream in streams if stream["codec_type"] == "audio")
        return {
            "rates": {Fraction(video["r_frame_rate"]), Fraction(video["avg_frame_rate"])},
            "size": (video["width"], video["height"]),
            "frames": int(video["nb_read_frames"]),
            "seconds": (float(video["duration"]), float(audio["duration"])),
            "codecs": (video["codec_name"], audio["codec_name"]),
        }
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        return {
            "rates": {video.average_rate, video.base_rate},
            "size": (video.width, video.height),
            "frames": sum(1 for _ in container.decode(video)),
            "seconds": tuple(float(stream.duration * stream.time_base) for stream in (video, audio)),
            "codecs": (video.codec_context.name, audio.codec_context.name),
        }


@pytest.fixture(scope="module")
def landmark_dir(tmp_path_factory):
    """Where each clip's landmarks are kept once they are detected."""
    return tmp_path_factory.mktemp("landmarks")


LONG = ("silent_face_1280x720_30fps.mp4", "seated_woman_1080x1920.mp4")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in CASES]
)
def test_dub_of_a_real_clip(name, clips_dir, landmark_dir, tmp_path):
    driving, rate = CASES[name]
    source = clips_dir / name
    csv = clips_dir / "openface_640x480.csv" if name.startswith("openface") else None
    job = DubbingJob(source, clips_dir / driving, tmp_path / "out.mp4", csv)
    report = Dubber(Noise(), read_speech, landmark_dir, DubbingOptions(blend="feather")).dub(job)
    reader = VideoReader(source)
    rate = rate or reader.info.rate
    speech = read_speech(clips_dir / driving)
    facts = probe(job.result)
    assert facts["rates"] == {rate}
    assert facts["size"] == (reader.info.width, reader.info.height)
    assert facts["frames"] == report.frames == round(speech.duration * rate)
    assert all(abs(seconds - speech.duration) <= 1 / rate + 0.03 for seconds in facts["seconds"])
    assert facts["codecs"] == ("h264", "aac")

    plan = analyze_video(source, csv, landmark_dir).plan
    timeline = reader.timeline(rate)
    changed = 0
    pairs = zip(timeline, VideoReader(job.result).frames(), strict=False)
    for old, (index, new) in zip(reader.play(int(i) for i in timeline[: report.frames]), pairs, strict=False):
        outside = np.ones(old.luma.shape, bool)
        if plan.weight[index] > 0:
            box = plan.box(index)
            region = (slice(max(box.top, 0), box.bottom), slice(max(box.left, 0), box.right))
            outside[region] = False
            changed += cv2.PSNR(old.luma[region].copy(), new.luma[region].copy()) < 25
        error = np.mean((old.luma[outside].astype(float) - new.luma[outside]) ** 2)
        assert 10 * np.log10(255**2 / max(error, 1e-9)) >= 38
    assert changed >= 0.9 * min(report.frames, len(timeline)) - report.untouched_frames


@pytest.mark.parametrize(
    "name, blend",
    [
        ("hdtf_man_glasses_512.mp4", "face"),
        ("hdtf_man_glasses_512.mp4", "feather"),
        ("hdtf_man_glasses_512.mp4", "hard"),
        pytest.param("studio_actor_1080p_30fps.mp4", "face", marks=pytest.mark.slow),
    ],
)
def test_an_unchanged_mouth_gives_back_the_source(name, blend, clips_dir, landmark_dir, tmp_path):
    source = clips_dir / name
    job = DubbingJob(source, clips_dir / "studio_actor_1080p_30fps.mp4", tmp_path / "out.mp4")
    Dubber(Echo(), read_speech, landmark_dir).dub(job, DubbingOptions(blend=blend))
    plan = analyze_video(source, landmark_dir=landmark_dir).plan
    for old, new in zip(VideoReader(source).frames(), VideoReader(job.result).frames(), strict=False):
        box = plan.box(old.index)
        region = (slice(max(box.top, 0), box.bottom), slice(max(box.left, 0), box.right))
        assert cv2.PSNR(old.luma[region].copy(), new.luma[region].copy()) >= 36
