"""Face crops, read from files or kept in memory."""

import pytest
import torch
from helpers.samples import MOUTH
from helpers.training_data import write_training_set

from dataset.crops import CropFiles, CropMemory
from dataset.manifest import read_manifest
from dataset.samples import ClipSamples, FrameSamples, SampleKey
from dataset.sync_samples import SyncSamples
from utils.errors import UserError
from utils.face.crop_geometry import mouth_region, network_size


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
