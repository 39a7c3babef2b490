"""Samples of the DINet stages: which crops and which speech they take."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.samples import MOUTH, draw, make, plain_videos
from helpers.training_data import write_training_set

from dataset.crops import CropFiles, CropMemory, UnreadableCropError
from dataset.manifest import read_manifest
from dataset.samples import ClipSamples, FrameSamples, SampleKey, split_videos
from dataset.sync_samples import SyncSamples
from utils.errors import UserError
from utils.face.crop_geometry import network_size


def test_a_frame_sample_takes_a_middle_frame_its_speech_and_five_other_clips(tmp_path):
    samples = make(FrameSamples, plain_videos(tmp_path, [7, 6]))
    frames = set()
    for sample in draw(samples):
        (video, clip, frame), references = sample["crops"][0].tolist(), sample["crops"][1:]
        frames.add(frame)
        assert (references[:, 0] == video).all()
        used = references[:, 1].tolist()
        assert len(set(used)) == 5 and clip not in used
        # Rows (i - 2) * 4 .. (i + 3) * 4 of the clip.
        first = (9 * clip + frame - 2) * 4
        assert sample["audio"].shape == (3, 20)
        assert sample["audio"][0].eq(video).all()
        assert sample["audio"][1].tolist() == list(range(first, first + 20))
    assert frames == {2, 3, 4, 5, 6}


def test_speech_that_the_json_holds_itself_is_that_of_the_clip(tmp_path):
    samples = make(FrameSamples, plain_videos(tmp_path, [6], numbers_inside=True))
    for sample in draw(samples, 20):
        _, clip, frame = sample["crops"][0].tolist()
        assert sample["audio"][1].tolist() == list(range(9 * clip + frame - 2, 9 * clip + frame + 3))


def test_videos_are_taken_in_turn_and_samples_depend_on_their_key_alone(tmp_path):
    videos = plain_videos(tmp_path, [6, 6, 6])
    samples, again, other = (make(FrameSamples, videos, seed) for seed in (5, 5, 6))
    assert [sample["crops"][0][0].item() for sample in draw(samples, 6)] == [0, 1, 2, 0, 1, 2]
    keys = [SampleKey(2, 4), SampleKey(1, 4), SampleKey(1, 7)]
    first = samples[keys]
    assert all(torch.equal(first[name], value) for name, value in again[keys].items())
    assert not torch.equal(first["crops"], other[keys]["crops"])
    assert not torch.equal(first["crops"][0], first["crops"][1])
    backwards = again[keys[::-1]]
    assert torch.equal(backwards["crops"].flip(0), first["crops"])


@pytest.mark.parametrize(("clips", "others"), [(2, 1), (3, 2), (6, 5)])
def test_videos_of_few_clips_give_references_from_the_clips_there_are(tmp_path, clips, others):
    for sample in draw(make(FrameSamples, plain_videos(tmp_path, [clips])), 20):
        source, references = sample["crops"][0].tolist(), [tuple(crop) for crop in sample["crops"][1:].tolist()]
        assert len({clip for _, clip, _ in references}) == others
        assert source[1] not in {clip for _, clip, _ in references}
        assert len(set(references)) == 5


def test_videos_of_one_clip_are_left_out_with_a_warning_unless_references_may_repeat_the_source(tmp_path, caplog):
    videos = plain_videos(tmp_path, [1, 6])
    samples = make(FrameSamples, videos)
    assert [video.name for video in samples.videos] == ["video1"]
    assert "video0" in caplog.text and "--reference_may_repeat_source" in caplog.text
    repeating = make(FrameSamples, videos, may_repeat_source=True)
    assert len(repeating.videos) == 2
    with pytest.raises(UserError, match=r"^--train_data: no video has 2 clips"):
        make(FrameSamples, videos[:1])


def test_references_may_come_from_the_source_clip_only_if_asked_for(tmp_path):
    videos = plain_videos(tmp_path, [3])
    for repeat in (False, True):
        samples = draw(make(ClipSamples, videos, may_repeat_source=repeat), 20)
        repeated = [(sample["crops"][5:, 1] == sample["crops"][0, 1]).any().item() for sample in samples]
        assert any(repeated) == repeat


@pytest.mark.parametrize("kind", [partial(FrameSamples, frames_per_sample=2), FrameSamples, ClipSamples])
def test_a_fraction_of_the_samples_has_one_reference_five_times(tmp_path, kind):
    videos = plain_videos(tmp_path, [7])
    stills = []
    for sample in draw(make(partial(kind, still_references=0.5), videos), 60):
        references = [tuple(crop) for crop in sample["crops"][-5:].tolist()]
        assert len(set(references)) in (1, 5)
        stills.append(len(set(references)) == 1)
    assert 15 < sum(stills) < 45


def test_a_clip_sample_takes_five_frames_with_their_speech_and_references_of_each(tmp_path):
    samples = make(ClipSamples, plain_videos(tmp_path, [7, 6]))
    for sample in draw(samples, 10):
        sources, references = sample["crops"][:5], sample["crops"][5:].view(5, 5, 3)
        video, clip, _ = sources[0].tolist()
        assert sources.tolist() == [[video, clip, frame] for frame in (2, 3, 4, 5, 6)]
        assert all(len(set(clips)) == 5 and clip not in clips for clips in references[..., 1].tolist())
        assert not torch.equal(references[0], references[1])
        assert sample["audio"].shape == (5, 3, 20) and sample["clip_audio"].shape == (3, 36)
        start = clip * 36
        assert sample["clip_audio"][1].tolist() == list(range(start, start + 36))
        assert sample["audio"][3, 1].tolist() == list(range(start + 12, start + 32))


def test_clips_longer_than_nine_frames_are_used_and_shorter_ones_left_out(tmp_path):
    long = make(FrameSamples, plain_videos(tmp_path, [6], length=12))
    assert {sample["crops"][0][2].item() for sample in draw(long, 150)} == set(range(2, 10))
    with pytest.raises(UserError, match="clips of 9 frames"):
        make(FrameSamples, plain_videos(tmp_path, [6], length=8))


def test_held_out_clips_are_the_last_ones_and_in_no_training_sample(tmp_path):
    rest, held = split_videos(plain_videos(tmp_path, [10, 4]), 0.25)
    assert [len(video.clips) for video in rest] == [8, 3]
    assert [[clip.frame_paths[0] for clip in video.clips] for video in held] == [["0/8/0", "0/9/0"], ["1/3/0"]]
    assert split_videos(rest, 0.0)[1] == []
    samples = make(SyncSamples, held, other_video_fraction=0)
    for sample in draw(samples, 10):
        _, clip, frame = sample["crops"][0].tolist()
        assert sample["audio"][1, 0] == (9 * clip + frame - 2) * 4


@pytest.mark.parametrize("cached", [False, True])
def test_a_broken_crop_is_reported_once_and_another_sample_taken(tmp_path, caplog, cached):
    videos = read_manifest(write_training_set(tmp_path, videos=1, clips=3))
    broken = Path(videos[0].clips[1].frame_paths[4])
    broken.write_bytes(broken.read_bytes()[:200])
    gone = Path(videos[0].clips[2].frame_paths[3])
    gone.unlink()
    size = network_size(MOUTH)
    paths = [path for clip in videos[0].clips for path in clip.frame_paths]
    crops = CropMemory(paths, size, torch.device("cpu")) if cached else CropFiles(size)
    for path in (broken, gone):
        with pytest.raises(UnreadableCropError, match=path.name):
            crops.take([path.as_posix()])
    samples = FrameSamples(videos, crops, MOUTH, 0)
    batch = samples[[SampleKey(1, index) for index in range(40)]]
    assert batch["crops"].shape == (40, 6, *size, 3)
    assert caplog.text.count(broken.as_posix()) == 1


def test_data_of_which_nothing_can_be_read_is_one_clear_line(tmp_path):
    videos = read_manifest(write_training_set(tmp_path, videos=2, clips=2))
    for path in tmp_path.rglob("*.jpg"):
        path.write_bytes(b"no picture")
    error = FrameSamples(videos, CropFiles(network_size(MOUTH)), MOUTH, 0)[[SampleKey(1, 0)]]
    assert isinstance(error, UserError)
    assert str(error).startswith("--train_data: too many crops of it cannot be read") and "\n" not in str(error)


def test_source_frames_that_share_references_come_from_other_clips_than_these(tmp_path):
    for clips, reference_clips in ((8, 4), (12, 5), (3, 1)):
        samples = make(FrameSamples, plain_videos(tmp_path, [clips]), frames_per_sample=4)
        for sample in draw(samples, 20):
            sources, references = sample["crops"][:4].tolist(), sample["crops"][4:].tolist()
            used = {clip for _, clip, _ in references}
            assert len(used) == reference_clips and len({tuple(crop) for crop in references}) == 5
            assert not used & {clip for _, clip, _ in sources}
            assert len({clip for _, clip, _ in sources}) == min(4, clips - reference_clips)
            for (_, clip, frame), audio in zip(sources, sample["audio"], strict=True):
                assert audio[1, 0] == (9 * clip + frame - 2) * 4
        batch = {name: torch.stack([value, value]) for name, value in sample.items()}
        prepared = samples._arrange(torch.zeros(2, 9, 3, *network_size(MOUTH)))
        assert prepared["source"].shape[:2] == (2, 4) and prepared["reference"].shape[:2] == (2, 15)
        assert batch["audio"].shape == (2, 4, 3, 20)


@pytest.mark.parametrize(("power", "share"), [(0, 1 / 2), (1, 4 / 5), (0.5, 2 / 3)])
def test_longer_videos_are_drawn_more_often_if_asked_for(tmp_path, power, share):
    samples = make(FrameSamples, plain_videos(tmp_path, [3, 12]), length_power=power)
    drawn = [sample["crops"][0][0].item() for sample in draw(samples, 1000)]
    assert np.mean(drawn) == pytest.approx(share, abs=0.05)
