"""Batches: their order, where it can be taken up, and what is wrong with data."""

import itertools
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.training_data import write_training_set

from dataset.loading import Batches, ResumableBatchSampler, open_training_data
from dataset.samples import FrameSamples
from dataset.settings import LoadingSettings
from dataset.sync_samples import SyncSamples
from utils.distributed import DistInfo
from utils.errors import UserError

CPU = torch.device("cpu")
ALONE = DistInfo()


@pytest.fixture(scope="module")
def json_path(tmp_path_factory) -> Path:
    return write_training_set(tmp_path_factory.mktemp("set"), videos=2, clips=3)


def open_data(path: Path, dist_info: DistInfo = ALONE, kind=FrameSamples, **settings):
    settings = {"augment_num": 4, "batch_size": 2, "mouth_region_size": 32, "num_workers": 0} | settings
    return open_training_data(kind, LoadingSettings(path, **settings), dist_info, CPU)


def take(batches: Batches, count: int, epoch: int = 1, step: int = 0) -> list[dict[str, torch.Tensor]]:
    return list(itertools.islice(batches.stream(epoch, step), count))


def assert_equal(one: list[dict[str, torch.Tensor]], two: list[dict[str, torch.Tensor]]) -> None:
    assert len(one) == len(two) and all(a.keys() == b.keys() for a, b in zip(one, two, strict=True))
    assert all(torch.equal(a[name], b[name]) for a, b in zip(one, two, strict=True) for name in a)


def keys(order: ResumableBatchSampler, count: int) -> list[list[tuple[int, int]]]:
    return [[(key.epoch, key.index) for key in batch] for batch in itertools.islice(order, count)]


def test_an_epoch_takes_every_sample_at_most_once_and_the_next_in_another_order():
    batches = keys(ResumableBatchSampler(10, 3, 0, ALONE, 1, 0), 6)
    first, second = itertools.chain(*batches[:3]), itertools.chain(*batches[3:])
    first, second = list(first), list(second)
    assert {epoch for epoch, _ in first} == {1} and {epoch for epoch, _ in second} == {2}
    assert len({index for _, index in first}) == 9
    assert [index for _, index in first] != [index for _, index in second]


@pytest.mark.parametrize(("epoch", "step", "skipped"), [(1, 2, 2), (2, 0, 3), (2, 1, 4), (1, 3, 3)])
def test_the_order_can_be_taken_up_at_any_step(epoch, step, skipped):
    whole = keys(ResumableBatchSampler(10, 3, 0, ALONE, 1, 0), 9)
    assert keys(ResumableBatchSampler(10, 3, 0, ALONE, epoch, step), 9 - skipped) == whole[skipped:]


def test_processes_share_each_batch():
    whole = keys(ResumableBatchSampler(12, 4, 0, ALONE, 1, 0), 5)
    parts = [keys(ResumableBatchSampler(12, 4, 0, DistInfo(rank, 2), 1, 0), 5) for rank in range(2)]
    assert [a + b for a, b in zip(*parts, strict=True)] == whole


@pytest.mark.parametrize("options", [{"num_workers": 2}, {"cache": "ram"}, {"cache": "device"}, {"num_workers": 1}])
def test_loaders_give_the_same_batches_with_workers_and_caches(json_path, options):
    plain = open_data(json_path, augment="all").train
    other = open_data(json_path, augment="all", **options).train
    assert plain.steps_per_epoch == 4
    assert_equal(take(plain, 5, 1, 2), take(other, 5, 1, 2))


def test_samples_to_report_on_are_always_the_same_and_shared(json_path):
    data = open_data(json_path, val_data=json_path)
    one, two = (list(data.held_out["val"].validation(5)) for _ in range(2))
    assert_equal(one, two)
    assert [len(batch["source"]) for batch in one] == [2, 2, 1]
    shares = [list(open_data(json_path, DistInfo(rank, 2)).train.validation(5)) for rank in range(2)]
    assert sorted(sum(len(batch["source"]) for batch in share) for share in shares) == [2, 3]


def test_held_out_clips_are_reported_on_and_not_trained_on(json_path):
    data = open_data(json_path, kind=SyncSamples, hold_out=0.34)
    assert [len(video.clips) for video in data.train.samples.videos] == [2, 2]
    assert [len(video.clips) for video in data.held_out["held_out"].samples.videos] == [1, 1]


def bad_manifest(tmp_path: Path, entries: dict) -> Path:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def test_bad_data_is_one_line_that_names_the_file(json_path, tmp_path):
    entries = json.loads(json_path.read_text())
    away = json.loads(json.dumps(entries).replace("/crops/", "/elsewhere/"))
    speechless = json.loads(json.dumps(entries).replace("_mel.npy", "_none.npy"))
    for path, match in (
        (tmp_path / "none.json", "does not exist; make it with"),
        (bad_manifest(tmp_path, {}), "holds no clips"),
    ):
        with pytest.raises(UserError, match=match):
            open_data(path)
    with pytest.raises(UserError, match=r"^--train_data: crops of 2 of 2 videos are missing, such as .*/elsewhere/"):
        open_data(bad_manifest(tmp_path, away))
    with pytest.raises(UserError, match=r"_none.npy: .* of video0 cannot be read \(No such file or directory\); run"):
        open_data(bad_manifest(tmp_path, speechless))


@pytest.mark.parametrize(
    ("settings", "dist_info", "match"),
    [
        ({"batch_size": 9}, ALONE, "--batch_size: 9 is more than the 8 samples of an epoch"),
        ({"batch_size": 3}, DistInfo(0, 2), "--batch_size: 3 cannot be shared equally by 2 processes"),
        ({"audio_channel": 29}, ALONE, "--audio_channel: .* holds mel features of 80 channels, not 29"),
    ],
)
def test_options_that_do_not_fit_the_data_are_named(json_path, settings, dist_info, match):
    with pytest.raises(UserError, match=match):
        open_data(json_path, dist_info, **settings)


def test_held_out_data_must_be_of_the_same_kind(json_path, tmp_path):
    other = write_training_set(tmp_path, kind="deepspeech")
    with pytest.raises(UserError, match=r"--val_data: .* holds deepspeech features and --train_data mel"):
        open_data(json_path, val_data=other)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_the_loader_comes_out_as_itself(json_path, tmp_path, workers):
    path = write_training_set(tmp_path, videos=2, clips=2)
    data = open_data(path, num_workers=workers)
    for crop in tmp_path.rglob("*.jpg"):
        crop.write_bytes(b"")
    with pytest.raises(UserError, match=r"^--train_data: too many crops of it cannot be read") as caught:
        take(data.train, 1)
    assert "\n" not in str(caught.value)


def test_a_program_ends_though_its_stream_was_left_open(json_path):
    code = (
        "import sys; from pathlib import Path; import test_loading as t; "
        "stream = t.open_data(Path(sys.argv[1]), num_workers=1).train.stream(1, 0); next(stream)"
    )
    here = Path(__file__).parent
    tests = here.parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (here, tests, tests.parent)))}
    subprocess.run([sys.executable, "-c", code, json_path], check=True, timeout=120, env=environment)


def test_samples_may_be_made_in_another_way_to_report_on(json_path):
    judged = partial(SyncSamples, other_video_fraction=0)
    settings = LoadingSettings(json_path, val_data=json_path, batch_size=2, mouth_region_size=32, num_workers=0)
    data = open_training_data(SyncSamples, settings, ALONE, CPU, judged)
    assert data.held_out["val"].samples.other_video_fraction == 0
    assert data.train.samples.other_video_fraction > 0
