"""Lip supervision by one option, and its parts."""

import os
from pathlib import Path

import pytest

from utils.errors import UserError
from utils.training.settings import CoarseSettings, LipSupervisionSettings


def touch(path: Path, age: float = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_without_the_option_nothing_is_supervised():
    resolved = LipSupervisionSettings().resolve()
    assert resolved.pretrained_mouth_reader_path is None and resolved.pretrained_audio2lip_path is None
    assert (resolved.lip_amplitude, resolved.unpaired_audio) == (1, 0) and not resolved.needs_audio2lip


def test_a_folder_stands_for_both_networks_and_the_recommended_values(tmp_path):
    reader = touch(tmp_path / "mouth_reader.pth")
    touch(tmp_path / "audio_encoder_training/audio_encoder_model_epoch_9.pth", age=60)
    newest = touch(tmp_path / "audio_encoder_training/audio_encoder_model_epoch_10.pth")
    resolved = LipSupervisionSettings(lip_supervision=tmp_path).resolve()
    assert resolved.pretrained_mouth_reader_path == reader and resolved.pretrained_audio2lip_path == newest
    assert (resolved.lip_amplitude, resolved.unpaired_audio, resolved.lamb_lips) == (2, 0.5, 0.3)


def test_single_options_win_over_the_folder(tmp_path):
    touch(tmp_path / "mouth_reader.pth")
    mine = touch(tmp_path / "other/mine.pth")
    resolved = LipSupervisionSettings(
        lip_supervision=tmp_path, pretrained_audio2lip_path=mine, lip_amplitude=3.0, unpaired_audio=0.0
    ).resolve()
    assert resolved.pretrained_audio2lip_path == mine
    assert (resolved.lip_amplitude, resolved.unpaired_audio) == (3, 0)


def test_true_lips_need_the_mouth_reader_alone():
    resolved = LipSupervisionSettings(pretrained_mouth_reader_path=Path("m.pth")).resolve()
    assert not resolved.needs_audio2lip


@pytest.mark.parametrize("missing", ["mouth_reader", "audio_encoder"])
def test_a_folder_without_one_of_the_networks_is_named(missing, tmp_path):
    for prefix in {"mouth_reader", "audio_encoder"} - {missing}:
        touch(tmp_path / f"{prefix}.pth")
    with pytest.raises(UserError, match=rf"^--lip_supervision: there is no {missing}.pth .*train_{missing}.py"):
        LipSupervisionSettings(lip_supervision=tmp_path).resolve()


def test_the_bundled_networks_are_found():
    demo = Path(__file__).parents[3] / "asserts/demo"
    resolved = LipSupervisionSettings(lip_supervision=demo).resolve()
    assert resolved.pretrained_mouth_reader_path == demo / "mouth_reader.pth"
    assert resolved.pretrained_audio2lip_path == demo / "audio_encoder.pth"


def test_coarse_to_fine_needs_both_options():
    with pytest.raises(UserError, match=r"^--coarse2fine: needs --coarse_model_path"):
        CoarseSettings(coarse2fine=True)
    with pytest.raises(UserError, match=r"^--coarse_model_path: is used with --coarse2fine only"):
        CoarseSettings(coarse_model_path=Path("x.pth"))
