import cv2
import numpy as np
import pytest

from utils.media.shots import ShotDetector
from utils.media.video_reader import VideoReader


def find(frames):
    detector = ShotDetector(25.0)
    for frame in frames:
        detector.add(frame)
    return detector.starts().tolist()


def moving(seed, count):
    """A textured picture that pans."""
    noise = np.random.default_rng(seed).integers(0, 256, (90, 200), np.uint8)
    picture = cv2.GaussianBlur(cv2.resize(noise, (800, 360)), (0, 0), 6)
    return [np.ascontiguousarray(picture[:, i : i + 400]) for i in range(count)]


def test_cuts_are_found_to_the_frame_and_pans_are_none():
    assert find(moving(0, 40)) == [0]
    assert find(moving(0, 40) + moving(1, 30) + moving(2, 40)) == [0, 40, 70]


def test_a_still_and_an_empty_video():
    assert find([]) == [0]
    assert find([np.zeros((60, 80), np.uint8)] * 30) == [0]


@pytest.mark.clips
def test_real_clips_have_no_cut_but_where_they_are_joined(clips_dir):
    names = ("selfie_woman_544x960_vfr.mp4", "hdtf_woman_turning_512.mp4", "woman_address_512.mp4")
    parts = [[frame.luma for frame in VideoReader(clips_dir / name).frames()][:120] for name in names]
    for part in parts:
        assert find(part) == [0]
    assert find([cv2.resize(luma, (512, 512)) for part in parts for luma in part]) == [0, 120, 240]


@pytest.mark.clips
def test_jump_cuts_of_one_person_are_found(clips_dir):
    assert find(frame.luma for frame in VideoReader(clips_dir / "anchor_512.mp4").frames()) == [0, 176, 702, 953, 1429]


def test_a_flash_is_no_cut():
    frames = moving(0, 40)
    frames[20] = np.full_like(frames[20], 255)
    assert find(frames) == [0]


def test_the_cuts_are_those_of_pyscenedetect():
    """Its AdaptiveDetector, on the same small frames; what is written here works in parts of a video, too."""
    scenedetect = pytest.importorskip("scenedetect")
    from scenedetect.detectors import AdaptiveDetector

    frames = moving(0, 30) + moving(1, 3) + moving(2, 25) + [np.full((360, 400), 90, np.uint8)] * 9 + moving(3, 20)
    theirs = AdaptiveDetector(adaptive_threshold=4.0, min_content_val=6.0, luma_only=True, min_scene_len=5)
    cuts = []
    for number, frame in enumerate(frames):
        small = cv2.resize(frame, (256, 230), interpolation=cv2.INTER_AREA)
        image = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR)
        cuts += theirs.process_frame(scenedetect.FrameTimecode(0, 25.0) + number, image)
    assert find(frames) == [0, *(cut.frame_num for cut in cuts)]
    assert len(cuts) >= 3
