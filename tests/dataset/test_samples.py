"""Training samples: which crops and which speech they take."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training_data import write_training_set

from dataset import augmentation
from dataset.augmentation import apply_image_augment, sample_image_augment
from dataset.crops import CropFiles, CropMemory, UnreadableCropError
from dataset.lip_samples import LipSyncSamples
from dataset.manifest import Clip, Video, read_manifest
from dataset.samples import ClipSamples, FrameSamples, SampleKey, Samples, split_videos
from dataset.sync_samples import SyncSamples
from utils.errors import UserError
from utils.face.crop_geometry import mouth_region, network_size
from utils.speech.features import FeatureKind

MOUTH = 64
ROWS = FeatureKind("mel", 3, 4)


class CropNames:
    """Crops that are their own paths, as numbers: video, clip, frame."""

    def take(self, paths: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[int(part) for part in path.split("/")] for path in paths])


def plain_videos(tmp_path: Path, clips: Sequence[int], numbers_inside: bool = False, length: int = 9) -> list[Video]:
    """Videos with so many clips each; the speech at row r of video v is [v, r, 0]."""
    videos = []
    for number, count in enumerate(clips):
        kind = FeatureKind("deepspeech", 3, 1) if numbers_inside else ROWS
        total = count * length * kind.rows_per_frame
        rows = np.stack([np.full(total, number), np.arange(total), np.zeros(total)], 1).astype(np.float32)
        path = tmp_path / f"{number}.npy"
        np.save(path, rows)
        own = []
        for clip in range(count):
            first = clip * length * kind.rows_per_frame
            inside = rows[first : first + length] if numbers_inside else None
            own.append(Clip([f"{number}/{clip}/{frame}" for frame in range(length)], first, inside))
        videos.append(Video(f"video{number}", own, kind, None if numbers_inside else path))
    return videos


def draw(samples: Samples, count: int = 60) -> list[dict[str, torch.Tensor]]:
    return [{name: value[0] for name, value in samples[[SampleKey(1, index)]].items()} for index in range(count)]


def make(kind: type[Samples], videos: list[Video], seed: int = 5, **options) -> Samples:
    return kind(videos, CropNames(), MOUTH, seed, **options)


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


def test_lips_are_those_of_the_frames_that_the_speech_belongs_to(tmp_path):
    videos = plain_videos(tmp_path, [1, 1], length=100)  # whose crops are numbered as the video's frames are
    samples = make(SyncSamples, videos, negatives=6)
    labelled = LipSyncSamples.__new__(LipSyncSamples)
    labelled.__dict__.update(samples.__dict__)
    opening = np.random.default_rng(0).normal(size=200)
    labelled._measures = {video.name: np.stack([opening, -opening], 1).astype(np.float32) for video in videos}
    unknown = 0
    for sample in draw(labelled, 50):
        heard = torch.cat([sample["audio"][None], sample["negative_audio"]])
        assert torch.equal(sample["lips"], sample["audio_lips"][0])
        for speech, lips in zip(heard, sample["audio_lips"], strict=True):
            if lips.isnan().all():
                unknown += 1
                continue
            frame = int(speech[1, 0]) // 4 + 2
            motion = opening[frame : frame + 5] - opening[frame : frame + 5].mean()
            assert np.allclose(lips.view(5, 2), np.stack([motion, -motion], 1), atol=1e-6)
    assert 45 < unknown < 105  # a quarter of the negatives are another video's


def test_sync_samples_to_report_on_are_shifted_only_and_those_of_a_published_json_keep_to_the_clip(tmp_path):
    for inside in (False, True):
        samples = make(SyncSamples, plain_videos(tmp_path, [3, 3], inside), other_video_share=0)
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


def test_held_out_clips_are_the_last_ones_and_in_no_training_sample(tmp_path):
    rest, held = split_videos(plain_videos(tmp_path, [10, 4]), 0.25)
    assert [len(video.clips) for video in rest] == [8, 3]
    assert [[clip.frame_paths[0] for clip in video.clips] for video in held] == [["0/8/0", "0/9/0"], ["1/3/0"]]
    assert split_videos(rest, 0.0)[1] == []
    samples = make(SyncSamples, held, other_video_share=0)
    for sample in draw(samples, 10):
        _, clip, frame = sample["crops"][0].tolist()
        assert sample["audio"][1, 0] == (9 * clip + frame - 2) * 4


def test_crops_are_rgb_at_the_size_of_the_network(tmp_path):
    videos = read_manifest(write_training_set(tmp_path, videos=1, clips=3))
    height, width = network_size(MOUTH)
    samples = FrameSamples(videos, CropFiles((height, width)), MOUTH, seed=0)
    batch = samples.prepare(samples[[SampleKey(1, 0), SampleKey(1, 1)]], torch.device("cpu"))
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "source": (2, 3, height, width),
        "reference": (2, 15, height, width),
        "audio": (2, 80, 20),
    }
    rows, columns = mouth_region(MOUTH)
    middle = batch["source"][0, :, (rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2]
    red, green, blue = middle.tolist()
    assert red > 0.35 and green < 0.2 and blue < 0.25  # the mouth, (120, 20, 30) of 255
    assert batch["reference"].min() >= 0 and batch["reference"].max() <= 1


@pytest.mark.parametrize("kind", [FrameSamples, ClipSamples, SyncSamples])
def test_crops_kept_in_memory_are_those_read_from_files(tmp_path, kind):
    videos = read_manifest(write_training_set(tmp_path, videos=1, clips=3, kind="deepspeech"))
    size = network_size(MOUTH)
    paths = [path for clip in videos[0].clips for path in clip.frame_paths]
    batches = []
    for crops in (CropFiles(size), CropMemory(paths, size, torch.device("cpu"))):
        samples = kind(videos, crops, MOUTH, 0)
        batches.append(samples.prepare(samples[[SampleKey(1, index) for index in range(3)]], torch.device("cpu")))
    assert batches[0].keys() == batches[1].keys()
    assert all(torch.equal(value, batches[1][name]) for name, value in batches[0].items())


def test_crops_that_do_not_fit_into_memory_are_an_error_that_names_the_way_out(monkeypatch):
    monkeypatch.setattr("dataset.crops._memory", lambda device: 1000)
    with pytest.raises(UserError, match=r"^--cache: 1 crops need .* use --cache none$"):
        CropMemory(["a.jpg"], (104, 80), torch.device("cpu"))


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


def test_augmentation_treats_a_sample_alike_and_keeps_the_mouth_where_it_is():
    rng = np.random.default_rng(0)
    augments = torch.stack([sample_image_augment(rng) for _ in range(40)])
    ramp = torch.linspace(0.3, 0.7, 80).expand(40, 6, 3, 104, 80)
    changed = apply_image_augment(ramp, augments, 1)
    assert changed.min() >= 0 and changed.max() <= 1
    rising = changed[..., -1] > changed[..., 0]
    assert torch.equal(rising.all(-1).all(-1).all(-1), ~augments[:, 0].bool())  # all pictures of a sample are flipped
    assert 5 < augments[:, 0].sum() < 35

    mark = torch.zeros(40, 6, 3, 104, 80)
    mark[..., 60:64, 38:42] = 1
    moved = apply_image_augment(mark, augments, 1).mean(2)
    rows = (moved.sum(3) * torch.arange(104.0)).sum(2) / moved.sum((2, 3))
    assert (rows[:, 1:] - rows[:, 1:2]).abs().max() < 1e-3  # references move together
    bright = moved > moved.amax((2, 3), keepdim=True) * 0.9
    centre = [bright[i].nonzero().float().mean(0)[1:] for i in range(40)]
    assert max((place - torch.tensor([61.5, 39.5])).abs().max().item() for place in centre) < 3


def test_color_augmentation_moves_nothing():
    rng = np.random.default_rng(0)
    augments = torch.stack([sample_image_augment(rng, "color") for _ in range(40)])
    mark = torch.full((40, 6, 3, 104, 80), 0.4)
    mark[..., 60:64, 38:42] = 0.6
    changed = apply_image_augment(mark, augments, 1)
    assert torch.allclose(changed[..., 60:64, 38:42].amin((3, 4)), changed[..., 60:64, 38:42].amax((3, 4)), atol=1e-4)
    assert torch.allclose(changed[..., 59, :], changed[..., 0, :1].expand_as(changed[..., 59, :]), atol=1e-4)
    assert changed.flatten(1).std(0).max() > 0.01


def test_augmented_speech_is_disturbed_and_reproducible(tmp_path):
    videos = plain_videos(tmp_path, [6])
    plain, one, two = (make(FrameSamples, videos, augment_audio=flag) for flag in (False, True, True))
    key = [SampleKey(1, 3)]
    assert torch.equal(one[key]["audio"], two[key]["audio"])
    assert torch.equal(one[key]["crops"], plain[key]["crops"])
    assert not torch.equal(one[key]["audio"], plain[key]["audio"])


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


def test_mel_features_are_augmented_with_the_formants_of_other_speakers(monkeypatch):
    for name in ("NOISE", "TILT", "MASKED_BANDS", "MASKED_ROWS"):
        monkeypatch.setattr(augmentation, name, 0)
    speech = np.zeros((20, 80), np.float32)
    speech[:, 39:42] = 1
    peaks = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        changed = augmentation.augment_audio_features(speech, rng, "mel")
        assert changed.shape == speech.shape and changed.dtype == np.float32
        peaks.append((changed[0] * np.arange(80)).sum() / changed[0].sum())
        same = augmentation.augment_audio_features(speech, rng, "deepspeech")
        np.testing.assert_array_equal(same, speech)
    assert 40 * 0.9 < min(peaks) < 39 and 41 < max(peaks) < 40 * 1.1
