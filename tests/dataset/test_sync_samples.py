"""Samples of SyncNet: audio in sync and out of sync."""

import pytest
from helpers.samples import draw, make, plain_videos

from dataset.sync_samples import SyncSamples
from utils.errors import UserError


def test_a_sync_sample_pairs_five_frames_with_their_nine_slots_and_with_others(tmp_path):
    samples = make(SyncSamples, plain_videos(tmp_path, [8, 8]), negatives=3)
    starts, others = set(), 0
    for sample in draw(samples, 200):
        video, clip, frame = sample["crops"][0].tolist()
        starts.add(frame)
        assert sample["crops"].tolist() == [[video, clip, frame + i] for i in range(5)]
        first = (9 * clip + frame - 2) * 4
        assert sample["audio"][1].tolist() == list(range(first, first + 36))
        negatives = sample["negative_audio"]
        assert negatives.shape == (3, 3, 36) and negatives[:, 1].diff().eq(1).all()
        foreign = negatives[:, 0, 0] != video
        others += foreign.sum().item()
        shifts = (negatives[~foreign, 1, 0] - first) / 4
        assert all(5 <= abs(shift) <= 15 and shift == int(shift) for shift in shifts)
        assert len(set(shifts.tolist())) == len(shifts)
    assert starts == {0, 1, 2, 3, 4}
    assert 90 < others < 210


def test_sync_samples_to_report_on_are_shifted_only_and_those_of_a_published_json_keep_to_the_clip(tmp_path):
    for inside in (False, True):
        samples = make(SyncSamples, plain_videos(tmp_path, [3, 3], inside), other_video_fraction=0)
        drawn = draw(samples)
        assert all((sample["negative_audio"][:, 0, 0] == sample["crops"][0][0]).all() for sample in drawn)
        if inside:
            assert all(sample["crops"][0][2] == 2 for sample in drawn)


def test_a_single_video_too_short_to_shift_is_an_error_and_of_two_the_other_serves(tmp_path):
    videos = plain_videos(tmp_path, [1, 1])
    with pytest.raises(UserError, match="too short to shift"):
        make(SyncSamples, videos[:1])
    for sample in draw(make(SyncSamples, videos), 10):
        assert (sample["negative_audio"][:, 0, 0] != sample["crops"][0][0]).all()
