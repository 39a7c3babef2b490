"""Weights made small for sharing."""

from argparse import Namespace

import numpy as np
import pytest
import torch
from helpers.sample_media import formula_state, write_speech

import export_weights
from models.audio_to_lips import AudioToLipShape
from models.dinet import DINet
from models.lip_regressor import LipShapeRegressor
from models.syncnet import SyncNet
from utils.checkpoints import (
    AUDIO_ENCODER,
    LIP_REGRESSOR,
    SYNCNET,
    Metadata,
    load_network,
    read_checkpoint,
    write_checkpoint,
)
from utils.dubbing import LoadSettings, load_dubber
from utils.errors import UserError
from utils.face.landmarks import LIP_SHAPE_VALUES
from utils.speech.extractor import FeatureExtractor
from utils.training.pretrained import load_lip_supervision
from utils.training.settings import LipSupervisionSettings

METADATA = Metadata(64, "mel", 80, 4, 32)


def export(path, result, fp32=False, form=None, average_with=(), shares=None, speech_dir=None):
    averaged = {"average_with": average_with, "shares": shares}
    export_weights.export(
        Namespace(checkpoint=path, result_path=result, fp32=fp32, format=form, speech_dir=speech_dir, **averaged)
    )
    return read_checkpoint(result, "--x")


def test_the_average_alone_in_half_precision(tmp_path):
    network = DINet(audio_channel=80, feature_channel=32)
    average = formula_state(network)
    optimizer = torch.optim.Adam(network.parameters())
    networks = {"net_g": network, "net_g_ema": average, "net_dI": {"weight": torch.zeros(1000, 1000)}}
    write_checkpoint(tmp_path / "all.pth", networks, {"net_g": optimizer}, 7, METADATA)
    small = export(tmp_path / "all.pth", tmp_path / "small.pth")
    assert small.metadata == METADATA and small.epoch == 7
    assert set(small.networks) == {"net_g"} and not small.optimizers
    load_network(network, small, "net_g", "--x")
    for name, value in network.state_dict().items():
        assert torch.equal(value, average[name].half().to(value.dtype)), name
    assert (tmp_path / "small.pth").stat().st_size < 0.2 * (tmp_path / "all.pth").stat().st_size


def test_full_precision_and_syncnet(tmp_path):
    network = SyncNet(in_channel_audio=80)
    write_checkpoint(tmp_path / "all.pth", {SYNCNET: network}, {}, 1, METADATA)
    kept = export(tmp_path / "all.pth", tmp_path / "kept.pth", fp32=True)
    assert all(torch.equal(kept.networks[SYNCNET][name], value) for name, value in network.state_dict().items())


def test_networks_that_predict_the_lips(tmp_path):
    """An audio encoder and a mouth reader go as small as a generator, and train from there."""
    write_checkpoint(tmp_path / "a.pth", {AUDIO_ENCODER: AudioToLipShape(80, LIP_SHAPE_VALUES)}, {}, 1, METADATA)
    write_checkpoint(tmp_path / "m.pth", {LIP_REGRESSOR: LipShapeRegressor()}, {}, 1, METADATA)
    export(tmp_path / "a.pth", tmp_path / "small_a.pth")
    export(tmp_path / "m.pth", tmp_path / "small_m.pth")
    settings = LipSupervisionSettings(
        pretrained_mouth_reader_path=tmp_path / "small_m.pth",
        pretrained_audio2lip_path=tmp_path / "small_a.pth",
        lip_amplitude=2.0,
    )
    lips = load_lip_supervision(settings.resolve(), METADATA)
    assert next(lips.regressor.parameters()).dtype == next(lips.audio2lip.parameters()).dtype == torch.float32


def test_checkpoints_are_averaged_by_their_shares(tmp_path):
    for number, value in enumerate((1.0, 2.0, 5.0)):
        state = {"weight": torch.full((2, 3), value), "count": torch.tensor(number)}
        networks = {"net_g": {"weight": torch.zeros(2, 3), "count": torch.tensor(9)}, "net_g_ema": state}
        write_checkpoint(tmp_path / f"{number}.pth", networks if number else {"net_g": state}, {}, 1, METADATA)
    first, *others = (tmp_path / f"{number}.pth" for number in range(3))
    for shares, expected in ((None, 8 / 3), ([2, 1, 1], 9 / 4)):
        mean = export(first, tmp_path / "mean.pth", True, average_with=others, shares=shares).networks["net_g"]
        torch.testing.assert_close(mean["weight"], torch.full((2, 3), expected))
        assert mean["count"] == 0
    with pytest.raises(UserError, match=r"^--shares: 2 shares for 3 checkpoints"):
        export(first, tmp_path / "mean.pth", average_with=others, shares=[1, 2])
    write_checkpoint(tmp_path / "other.pth", {"net_g": {"weight": torch.ones(4)}}, {}, 1, METADATA)
    with pytest.raises(UserError, match=r"^--average_with: .*other.pth is another network"):
        export(first, tmp_path / "mean.pth", average_with=[tmp_path / "other.pth"])


def test_what_cannot_be_exported(tmp_path):
    write_checkpoint(tmp_path / "a.pth", {"net_v": {"weight": torch.zeros(2)}}, {}, 1, METADATA)
    with pytest.raises(UserError, match=r"^--checkpoint: .*a.pth is a checkpoint \(of net_v\), without a network"):
        export(tmp_path / "a.pth", tmp_path / "b.pth")
    write_checkpoint(tmp_path / "large.pth", {SYNCNET: {"weight": torch.full((1,), 1e6)}}, {}, 1, METADATA)
    with pytest.raises(UserError, match=r"^--checkpoint: weight of .*large.pth is beyond half precision; use --fp32"):
        export(tmp_path / "large.pth", tmp_path / "b.pth")
    assert not (tmp_path / "b.pth").exists()


class TestSafetensors:
    @pytest.fixture
    def written(self, tmp_path):
        network = SyncNet(in_channel_audio=80)
        write_checkpoint(tmp_path / "all.pth", {SYNCNET: network}, {}, 5, METADATA)
        return network, export(tmp_path / "all.pth", tmp_path / "s.safetensors", fp32=True), tmp_path

    def test_weights_and_metadata_come_back(self, written):
        network, read, _ = written
        assert read.metadata == METADATA and read.epoch == 5 and set(read.networks) == {SYNCNET}
        again = SyncNet(in_channel_audio=80)
        load_network(again, read, SYNCNET, "--x")
        assert all(torch.equal(a, b) for a, b in zip(again.parameters(), network.parameters(), strict=True))

    def test_other_tools_see_plain_tensors_and_what_they_are_for(self, written):
        from safetensors import safe_open

        with safe_open(written[2] / "s.safetensors", framework="numpy") as file:
            header = file.metadata()
            assert f"{SYNCNET}.merge_encoder.0.weight" in file.keys()  # noqa: SIM118
        assert header["mouth_region_size"] == "64" and header["audio_feature"] == "mel" and header["format"] == "pt"

    def test_back_to_pth(self, written):
        _, read, folder = written
        back = export(folder / "s.safetensors", folder / "back.pth", fp32=True)
        assert back.metadata == METADATA
        assert all(torch.equal(back.networks[SYNCNET][key], value) for key, value in read.networks[SYNCNET].items())

    def test_a_file_that_is_none(self, written):
        folder = written[2]
        (folder / "cut.safetensors").write_bytes((folder / "s.safetensors").read_bytes()[:5000])
        with pytest.raises(UserError, match=r"^--x: .*cut.safetensors is no safetensors file, or a damaged one"):
            read_checkpoint(folder / "cut.safetensors", "--x")
        from safetensors.torch import save_file

        save_file({"lora.up": torch.zeros(2)}, folder / "other.safetensors")
        with pytest.raises(UserError, match=r"^--x: .*other.safetensors holds no network of DINet .* but `lora`;"):
            read_checkpoint(folder / "other.safetensors", "--x")
        with pytest.raises(UserError, match=r"^--x: .*none.safetensors does not exist"):
            read_checkpoint(folder / "none.safetensors", "--x")

    def test_names_and_formats_that_do_not_fit(self, written):
        folder = written[2]
        for name, form in (("b.pth", "safetensors"), ("b.safetensors", "pth")):
            with pytest.raises(UserError, match=f"^--result_path: .* does not end as the files of --format {form} do"):
                export(folder / "all.pth", folder / name, form=form)


def test_the_demo_as_safetensors_dubs_as_the_pth_does(tmp_path):
    from utils.dubbing.settings import SHIPPED_WEIGHTS

    read = export(SHIPPED_WEIGHTS, tmp_path / "demo.safetensors")
    original = read_checkpoint(SHIPPED_WEIGHTS, "--x")
    assert read.metadata == original.metadata
    assert all(torch.equal(read.networks["net_g"][key], value) for key, value in original.networks["net_g"].items())


class TestSpeechDir:
    def test_the_norm_of_the_training_speech_is_recorded_and_limits_dubbing(self, tmp_path):
        (tmp_path / "speech").mkdir()
        write_speech(tmp_path / "speech/a.wav", 3.0)
        network = DINet(audio_channel=80, feature_channel=32).eval()
        write_checkpoint(tmp_path / "all.pth", {"net_g": network}, {}, 1, METADATA)
        small = export(tmp_path / "all.pth", tmp_path / "small.pth", fp32=True, speech_dir=tmp_path / "speech")
        features, _ = FeatureExtractor("mel").extract(tmp_path / "speech/a.wav", "--x")
        with torch.inference_mode():
            norms = network.encode_audio(torch.from_numpy(features.window(np.arange(75) / 25))).norm(dim=1)
        assert small.metadata.max_audio_norm == pytest.approx(norms.quantile(0.95).item(), rel=1e-5)
        dubber = load_dubber(LoadSettings(pretrained_clip_DINet_path=tmp_path / "small.pth", device="cpu"))
        assert dubber.generator.network.max_audio_norm == small.metadata.max_audio_norm

    def test_a_folder_without_files_is_refused(self, tmp_path):
        write_checkpoint(tmp_path / "a.pth", {"net_g": DINet(audio_channel=80, feature_channel=32)}, {}, 1, METADATA)
        with pytest.raises(UserError, match="is no folder with audio files"):
            export(tmp_path / "a.pth", tmp_path / "b.pth", speech_dir=tmp_path / "none")
