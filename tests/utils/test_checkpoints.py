"""Checkpoints: both layouts, and one clear line for every file that is no checkpoint."""

import os
import resource
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from golden.networks import generator, generator_inputs, syncnet

from models.dinet import DINet
from models.discriminator import Discriminator
from models.syncnet import SyncNet
from utils.checkpoints import Metadata, load_network, read_checkpoint, write_checkpoint
from utils.errors import UserError
from utils.pickle_check import read_torch_file

OPTION = "--weights"
METADATA = Metadata(mouth_region_size=64, audio_feature="mel", audio_channel=80, audio_rows_per_frame=4)


def small(seed: int = 0) -> torch.nn.Module:
    """A network that is quick to write."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))


def prefixed(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return OrderedDict((f"module.{key}", value) for key, value in network.state_dict().items())


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def message(function, *arguments) -> str:
    """The one line that a mistake gives."""
    with pytest.raises(UserError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """A generator's checkpoint as the published training writes it, formula weights."""
    path = tmp_path_factory.mktemp("published") / "netG_model_epoch_160.pth"
    torch.save({"epoch": 161, "state_dict": {"net_g": prefixed(generator())}, "optimizer": {"net_g": {}}}, path)
    return path


@pytest.fixture(scope="module")
def published_syncnet(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("published") / "syncnet_256mouth.pth"
    torch.save({"state_dict": {"net": syncnet().state_dict()}}, path)
    return path


class TestReading:
    def test_published_generator_gives_the_golden_output(self, published, golden_forward):
        network = DINet()
        checkpoint = read_checkpoint(published, OPTION)
        load_network(network, checkpoint, "net_g", OPTION)
        assert checkpoint.epoch == 161
        assert checkpoint.metadata == Metadata()
        with torch.no_grad():
            output = network.eval()(*generator_inputs())
        assert np.abs(output.numpy() - golden_forward["dinet_eval"]).max() < 2e-4

    def test_published_syncnet(self, published_syncnet):
        network = SyncNet()
        checkpoint = read_checkpoint(published_syncnet, OPTION)
        load_network(network, checkpoint, "net", OPTION)
        assert same(network, syncnet())
        assert checkpoint.epoch is None

    def test_half_precision_weights_without_prefix_load_into_a_float32_network(self, tmp_path):
        original = small()
        state = {
            key: value.half() if value.is_floating_point() else value for key, value in small().state_dict().items()
        }
        torch.save({"state_dict": {"net_g": state}}, tmp_path / "half.pth")
        network = small(seed=1)
        load_network(network, read_checkpoint(tmp_path / "half.pth", OPTION), "net_g", OPTION)
        assert network[0].weight.dtype == torch.float32
        assert torch.allclose(network[0].weight, original[0].weight, atol=1e-3)

    def test_files_of_old_pytorch_versions(self, tmp_path):
        torch.save(
            {"state_dict": {"net_g": prefixed(small())}}, tmp_path / "old.pth", _use_new_zipfile_serialization=False
        )
        network = small(seed=1)
        load_network(network, read_checkpoint(tmp_path / "old.pth", OPTION), "net_g", OPTION)
        assert same(network, small())


def no_file(path: Path) -> None:
    pass


def text(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\nsize 12345\n")


def truncated(path: Path) -> None:
    torch.save({"state_dict": {"net_g": small().state_dict()}}, path)
    path.write_bytes(path.read_bytes()[:-200])


def old_truncated(path: Path) -> None:
    torch.save({"state_dict": {"net_g": small().state_dict()}}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-200])


def random_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (no_file, "does not exist; get it from https://example.org"),
        (Path.mkdir, "is a folder"),
        (Path.touch, "is empty"),
        (text, "is no PyTorch checkpoint"),
        (random_bytes, "is no PyTorch checkpoint"),
        (truncated, "is cut short; copy or download it again"),
        (old_truncated, "is no PyTorch checkpoint, or a damaged one"),
        (lambda path: torch.save(small(), path), "holds Python objects besides weights"),
        (lambda path: torch.save(torch.zeros(3), path), "it holds a Tensor"),
        (lambda path: torch.save({}, path), "it holds a dict"),
        (
            lambda path: torch.save({"features.0.weight": torch.zeros(3)}, path),
            "only `features.0.weight` and no networks",
        ),
        (lambda path: torch.save({"state_dict": {"net_g": 5}}, path), "no networks under `state_dict`"),
    ],
)
def test_what_is_no_checkpoint_gives_one_line(tmp_path, make, expected):
    path = tmp_path / "weights.pth"
    make(path)
    line = message(read_checkpoint, path, OPTION, "get it from https://example.org")
    assert line.startswith(f"{OPTION}: {path} ")
    assert expected in line


def test_bare_weights_can_be_read_as_they_are(tmp_path):
    torch.save({"features.0.bias": torch.ones(3)}, tmp_path / "vgg.pth")
    assert torch.equal(read_torch_file(tmp_path / "vgg.pth", OPTION)["features.0.bias"], torch.ones(3))


class TestWrongNetwork:
    def test_a_syncnet_is_no_generator(self, published_syncnet):
        line = message(load_network, DINet(), read_checkpoint(published_syncnet, OPTION), "net_g", OPTION)
        assert line.endswith("is a SyncNet checkpoint, a DINet generator (net_g) is needed; name another one")

    def test_a_generator_is_no_syncnet(self, published):
        line = message(load_network, SyncNet(), read_checkpoint(published, OPTION), "net", OPTION)
        assert line.endswith("is a DINet checkpoint (of net_g), a SyncNet (net) is needed; name another one")

    def test_other_audio_features_name_the_parameter_and_the_option(self, published):
        network = DINet(audio_channel=80)
        before = network.source_in_conv[0].conv.weight.clone()
        line = message(load_network, network, read_checkpoint(published, OPTION), "net_g", OPTION)
        assert "`audio_encoder.0.conv.weight` is [128, 29, 5] in the file and [128, 80, 5] is needed" in line
        assert "--audio_channel" in line
        assert torch.equal(network.source_in_conv[0].conv.weight, before)

    def test_a_deeper_discriminator_names_its_options(self, tmp_path):
        write_checkpoint(tmp_path / "d.pth", {"net_dI": Discriminator(3, 8, 4, 32)}, {}, 1, Metadata())
        checkpoint = read_checkpoint(tmp_path / "d.pth", OPTION)
        shallow = message(load_network, Discriminator(3, 8, 3, 32), checkpoint, "net_dI", OPTION)
        deep = message(load_network, Discriminator(3, 8, 5, 32), checkpoint, "net_dI", OPTION)
        assert "`down_blocks.3.conv.weight` and 1 more is unknown" in shallow and "--D_num_blocks" in shallow
        assert "`down_blocks.4.conv.weight` and 1 more is missing" in deep and "--D_num_blocks" in deep


class TestWriting:
    def test_comes_back_whole(self, tmp_path):
        network = small()
        optimizer = torch.optim.Adam(network.parameters())
        network(torch.rand(1, 3, 8, 8)).sum().backward()
        optimizer.step()
        extra = {"step": 7, "random": torch.get_rng_state(), "names": ["a", ("b", None, 1.5)]}
        path = tmp_path / "new" / "netG_model_epoch_3.pth"
        write_checkpoint(path, {"net_g": network}, {"net_g": optimizer}, 4, METADATA, extra)

        checkpoint = read_checkpoint(path, OPTION)
        restored = small(seed=1)
        load_network(restored, checkpoint, "net_g", OPTION)
        assert same(restored, network)
        assert checkpoint.metadata == METADATA
        assert checkpoint.epoch == 4
        assert checkpoint.extra["step"] == 7 and checkpoint.extra["names"] == extra["names"]
        assert torch.equal(checkpoint.extra["random"], extra["random"])
        again = torch.optim.Adam(restored.parameters())
        again.load_state_dict(checkpoint.optimizers["net_g"])
        assert torch.equal(again.state[restored[0].weight]["exp_avg"], optimizer.state[network[0].weight]["exp_avg"])

    def test_tools_for_the_published_layout_read_it(self, tmp_path):
        network = small()
        write_checkpoint(tmp_path / "g.pth", {"net_g": network}, {}, 4, METADATA)
        write_checkpoint(tmp_path / "s.pth", {"net": network}, {}, 4, METADATA)
        content = torch.load(tmp_path / "g.pth", weights_only=True)
        assert content["epoch"] == 4
        torch.nn.DataParallel(small(seed=1)).load_state_dict(content["state_dict"]["net_g"])
        small(seed=1).load_state_dict(torch.load(tmp_path / "s.pth", weights_only=True)["state_dict"]["net"])

    def test_wrapped_and_compiled_networks_are_written_bare(self, tmp_path):
        network = torch.compile(torch.nn.DataParallel(small()))
        write_checkpoint(tmp_path / "g.pth", {"net_g": network, "net_dI": prefixed(small())}, {}, 1, Metadata())
        networks = read_checkpoint(tmp_path / "g.pth", OPTION).networks
        assert list(networks["net_g"]) == list(networks["net_dI"]) == list(small().state_dict())

    def test_a_full_disk_leaves_the_previous_file(self, tmp_path):
        path = tmp_path / "g.pth"
        write_checkpoint(path, {"net_g": small()}, {}, 1, Metadata())
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            line = message(write_checkpoint, path, {"net_g": {"w": torch.zeros(100_000)}}, {}, 2, Metadata())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert line.startswith(f"{path} cannot be written (File too large)")
        assert read_checkpoint(path, OPTION).epoch == 1
        assert list(tmp_path.iterdir()) == [path]

    def test_a_folder_that_is_a_file(self, tmp_path):
        (tmp_path / "results").write_text("")
        line = message(write_checkpoint, tmp_path / "results" / "g.pth", {"net_g": small()}, {}, 1, Metadata())
        assert "results/g.pth cannot be written" in line

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_without_permission(self, tmp_path):
        tmp_path.chmod(0o500)
        line = message(write_checkpoint, tmp_path / "g.pth", {"net_g": small()}, {}, 1, Metadata())
        assert "Permission denied" in line

    def test_a_view_does_not_drag_its_storage_along(self, tmp_path):
        write_checkpoint(tmp_path / "g.pth", {"net_g": {"w": torch.zeros(1_000_000)[:10]}}, {}, 1, Metadata())
        assert (tmp_path / "g.pth").stat().st_size < 10_000

    def test_what_could_not_be_read_back_is_not_written(self, tmp_path):
        with pytest.raises(TypeError, match="float64"):
            write_checkpoint(tmp_path / "g.pth", {"net_g": small()}, {}, 1, Metadata(), {"loss": np.float64(1)})
        assert not list(tmp_path.iterdir())
