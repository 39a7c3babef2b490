"""Option parsers of the training scripts."""

import re
import shlex
from pathlib import Path

import pytest
from helpers.training_data import PARSERS, PROJECT

from config.parser import option_names
from dataset.settings import LoadingSettings
from utils.training import settings
from utils.training.settings import DATA, PUBLISHED, SMALL_DATA


def test_published_options_keep_their_defaults():
    common = {"seed": 456, "augment_num": 32, "mouth_region_size": 64, "batch_size": 24, "start_epoch": 1,
              "non_decay": 200, "decay": 200, "checkpoint": 2,
              "train_data": Path("./asserts/training_data/training_json.json")}  # fmt: skip
    dinet = {"source_channel": 3, "ref_channel": 15, "lamb_perception": 10, "lr_g": 1e-4, "lr_dI": 1e-4,
             "D_num_blocks": 4, "D_block_expansion": 64, "D_max_features": 256}  # fmt: skip
    wanted = {
        "train_DINet_frame.py": common | dinet | {"coarse2fine": False},
        "train_DINet_clip.py": common | dinet | {"lamb_syncnet_perception": 0.1},
        "train_syncnet.py": common,
    }
    for script, defaults in wanted.items():
        options = vars(PARSERS[script]().parse_args([]))
        assert {name: options[name] for name in defaults} == defaults


@pytest.mark.parametrize("option", ["--mouth_region_size=100", "--hold_out=1", "--lr_g=-1", "--seed=-1"])
def test_values_out_of_range_are_refused_by_the_parser(option, capsys):
    with pytest.raises(SystemExit) as caught:
        PARSERS["train_DINet_frame.py"]().parse_args([option])
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert option.partition("=")[0] in errors and errors.count("\n") == 1


def test_a_training_without_any_loss_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        PARSERS["train_DINet_frame.py"]().parse_args(["--lamb_perception=0", "--lamb_gan=0", "--lamb_lips=1"])
    assert caught.value.code == 2
    assert "all losses have weight 0" in capsys.readouterr().err


def test_published_options_stand_in_their_own_group():
    for parser in PARSERS.values():
        titles = {action.dest: group.title for group in parser()._action_groups for action in group._group_actions}
        assert titles["train_data"] == titles["non_decay"] == PUBLISHED
        assert titles["lr_g" if "lr_g" in titles else "result_path"] == PUBLISHED
        assert titles["openface_landmark_dir" if "lr" in titles else "lip_supervision"] in (DATA, SMALL_DATA)


@pytest.mark.parametrize("script", PARSERS)
def test_a_script_reads_all_of_its_options(script):
    """Every option of the parser fills a settings dataclass that the script makes."""
    source = (PROJECT / script).read_text(encoding="utf-8")
    made = re.findall(r"make_settings\(\s*(?:settings\.)?(\w+)", source)
    read = {name for kind in made for name in option_names(getattr(settings, kind, LoadingSettings))}
    assert LoadingSettings.__name__ in made and "TrainingSettings" in made
    assert set(vars(PARSERS[script]().parse_args([]))) <= read


def test_old_names_work_with_a_hint(caplog):
    old = ["--lip_gain=2", "--swap_speech=0.5", "--lip_teacher_path=a.pth", "--augment", "look", "--prefetch", "8"]
    options = PARSERS["train_DINet_frame.py"]().parse_args(old)
    assert (options.lip_amplitude, options.unpaired_audio) == (2, 0.5)
    assert options.pretrained_audio2lip_path == Path("a.pth") and options.augment == "color"
    hints = ["--lip_amplitude", "--unpaired_audio", "--pretrained_audio2lip_path", "--augment color"]
    assert all(f"is now called {hint}" in caplog.text for hint in hints)
    assert "--prefetch has no effect" in caplog.text


def test_options_of_images_have_no_effect_on_a_training_without_images(caplog):
    options = PARSERS["train_audio_encoder.py"]().parse_args(["--augment", "--cache", "ram", "--mouth_region_size=64"])
    assert not {"augment", "cache", "mouth_region_size"} & set(vars(options))
    assert caplog.text.count("this training sees no images") == 3


def test_options_come_from_a_file_too(tmp_path):
    (tmp_path / "options.txt").write_text("# a comment\n--mouth_region_size 128 --batch_size 3  # another\n")
    options = PARSERS["train_DINet_frame.py"]().parse_args([f"@{tmp_path / 'options.txt'}", "--batch_size", "4"])
    assert (options.mouth_region_size, options.batch_size) == (128, 4)


@pytest.mark.parametrize("page", ["README.md", "docs/small_data.md"])
def test_documented_commands_are_understood(page, monkeypatch):
    monkeypatch.chdir(PROJECT)
    commands = re.findall(r"^python (train_\w+\.py) (.*)$", (PROJECT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) >= 3
    for script, options in commands:
        PARSERS[script]().parse_args(shlex.split(options))


def test_documented_options_of_small_data_exist():
    known = {name for parser in PARSERS.values() for name in vars(parser().parse_args([]))}
    text = (PROJECT / "docs/small_data.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`--(\w+)", text)) - {"help"}
    assert len(named) > 15 and named <= known, named - known
