"""The recipe of the weights that ship, asserts/demo/train_demo.py."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from helpers.sample_media import write_face_video, write_speech

from config.data_processing import DataProcessingParser
from config.export_weights import ExportParser
from config.training import (
    AudioEncoderTrainingParser,
    ClipTrainingParser,
    FrameTrainingParser,
    MouthReaderTrainingParser,
)
from dataset.manifest import Clip, Video
from utils.checkpoints import read_checkpoint
from utils.dubbing import LoadSettings, load_dubber
from utils.speech.features import KINDS

SCRIPT = Path(__file__).parent.parent / "asserts/demo/train_demo.py"
PARSERS = {
    "data_processing.py": DataProcessingParser,
    "train_audio_encoder.py": AudioEncoderTrainingParser,
    "train_mouth_reader.py": MouthReaderTrainingParser,
    "train_DINet_frame.py": FrameTrainingParser,
    "train_DINet_clip.py": ClipTrainingParser,
    "export_weights.py": ExportParser,
}


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    return load(SCRIPT)


@pytest.fixture(scope="module")
def aligner() -> ModuleType:
    return load(SCRIPT.with_name("align_speech.py"))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_command_of_the_recipe_is_understood(recipe, device):
    options = recipe.parse_arguments(["--videos", "v", "--val_videos", "w", "--device", device, "--plan"])
    profile = recipe.PROFILES[device]
    lengths = {"frame_coarse": profile.coarse_frames, "frame_final": profile.final_frames, "clip": profile.clip_frames}
    produced = set()
    for step in (*recipe.data_steps(options), *recipe.training_steps(options, 20)):
        if step.name == "align":
            continue
        parsed = PARSERS[step.script]().parse_args(step.arguments)
        for name in ("coarse_model_path", "pretrained_audio_path", "pretrained_mouth_reader_path", "checkpoint"):
            path = getattr(parsed, name, None)
            if isinstance(path, Path):  # the checkpoint of an earlier step
                assert (path.parent.name, path.name) in produced, f"{step.name}: {path}"
        if step.script.startswith("train_"):
            epochs = parsed.non_decay + parsed.decay
            prefix = step.script.removeprefix("train_").removesuffix(".py")
            prefix = "netG" if prefix.startswith("DINet") else prefix
            produced.add((step.name, f"{prefix}_model_epoch_{epochs}.pth"))
            frames = epochs * 20 * parsed.augment_num * getattr(parsed, "frames_per_sample", 1)
            frames *= 5 if step.name == "clip" else 1
            assert lengths.get(step.name, frames) == pytest.approx(frames, rel=0.1)


def test_curves_are_read_from_training_logs(recipe, tmp_path):
    records = [
        {"kind": "start", "step": 0},
        {"kind": "train", "step": 10, "samples": 40, "lips": 1.0},
        {"kind": "validation", "step": 10, "data": "val", "lips": 0.5, "mouth_l1": 0.1},
        {"kind": "train", "step": 20, "samples": 80},
        {"kind": "validation", "step": 20, "data": "val", "lips": 0.25},
    ]
    log = tmp_path / "stage/log.jsonl"
    log.parent.mkdir()
    log.write_text("\n".join(map(json.dumps, records)) + "\n")
    assert recipe.read_curves(log) == {("lips", "val"): [(40, 0.5), (80, 0.25)], ("mouth_l1", "val"): [(40, 0.1)]}
    recipe.draw_curves(tmp_path, ["stage", "absent"], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_a_failed_step_ends_the_recipe_and_a_finished_one_is_not_repeated(recipe, tmp_path, monkeypatch):
    script = tmp_path / "step.py"
    script.write_text(
        "import pathlib, sys\npathlib.Path(sys.argv[1]).open('a').write('x')\nsys.exit(int(sys.argv[2]))\n"
    )
    monkeypatch.setattr(recipe, "ROOT", tmp_path)
    calls = tmp_path / "calls"
    with pytest.raises(SystemExit, match="3"):
        recipe.run_step(recipe.Step("a", "step.py", (str(calls), "3")), tmp_path)
    for _ in range(2):
        recipe.run_step(recipe.Step("a", "step.py", (str(calls), "1"), (0, 1)), tmp_path)
    assert calls.read_text() == "xx"


def test_speech_out_of_step_with_the_lips_is_found(aligner):
    rng = np.random.default_rng(0)
    predicted = np.convolve(rng.standard_normal(320), np.ones(5) / 5, "same")
    openings = predicted + 0.3 * rng.standard_normal(320)
    openings[50:60] = np.nan
    for shift, correction in ((0, 0), (1, 0), (3, 3), (-4, -4), (7, 0)):
        found = aligner.measure_alignment(np.roll(openings, -shift), predicted)
        assert (found.shift, found.correction) == (shift, correction)
        assert found.frames == 310 and found.best > 0.6
    short = aligner.measure_alignment(np.roll(openings, -3)[:80], predicted[:80])
    assert short.shift == 3 and short.correction == 0
    assert not aligner.measure_alignment(rng.standard_normal(320), predicted).usable
    assert not aligner.measure_alignment(np.ones(320), predicted).usable


def test_shifted_speech_is_that_of_later_frames(aligner, tmp_path):
    np.save(tmp_path / "mel.npy", np.zeros((4 * 27, 80), np.float16))
    clips = [Clip([f"{9 * number + i:06d}.jpg" for i in range(9)], 36 * number) for number in range(3)]
    video = Video("v", clips, KINDS["mel"], tmp_path / "mel.npy")
    assert [clip.first_row for clip in aligner.shift_speech(video, 2).clips] == [8, 44]
    assert [clip.first_row for clip in aligner.shift_speech(video, -2).clips] == [28, 64]


@pytest.mark.slow
def test_the_recipe_makes_weights_of_a_tiny_data_set(recipe, tmp_path, monkeypatch, caplog):
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(2):
        speech = write_speech(tmp_path / f"{number}.wav", 3, amplitude=0.3 + 0.1 * number)
        write_face_video(videos / f"face{number}.mp4", 75, size=256, audio=speech)
    # All steps and options, but a narrow generator, few epochs and short reports: the same checks in minutes less.
    small = replace(
        recipe.PROFILES["cpu"], feature_channel=16, speed=("--cache", "ram"), val_samples=4, lip_val_samples=16
    )
    monkeypatch.setitem(recipe.PROFILES, "cpu", small)
    monkeypatch.setattr(recipe, "EPOCHS", 6)
    monkeypatch.setattr(recipe, "LIP_EPOCHS", 3)
    work, result = tmp_path / "work", tmp_path / "result"
    folders = ["--videos", videos, "--val_videos", videos, "--work_dir", work, "--result_dir", result]
    arguments = [*map(str, folders), "--length", "0.0001", "--mouth_region_size", "64"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    recipe.main()
    names = {"DINet_demo.pth", "audio_encoder.pth", "mouth_reader.pth", "made_by.json", "learning_curves.png"}
    assert names <= {path.name for path in result.iterdir()}
    assert load_dubber(LoadSettings(result / "DINet_demo.pth", device="cpu")).generator.mouth_region_size == 64
    state = read_checkpoint(result / "DINet_demo.pth", "-").networks["net_g"]
    assert all(np.isfinite(value.float().numpy()).all() for value in state.values())
    with caplog.at_level("INFO"):
        recipe.main()
    assert sum("finished before" in message for message in caplog.messages) == 14


def test_the_recipe_is_a_command_of_its_own(tmp_path):
    command = [sys.executable, str(SCRIPT), "--videos", "v", "--plan"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert len(done.stdout.splitlines()) == 13 and done.stdout.startswith("python data_processing.py --all")
