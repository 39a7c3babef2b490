"""evaluate.py as users run it."""

import csv
import json
import math
import shlex
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from helpers.sample_media import formula_state, write_face_video, write_speech

import evaluate
from models.chung_syncnet import ChungSyncNet
from models.dinet import DINet
from models.syncnet import SyncNet
from utils.checkpoints import Metadata, write_checkpoint
from utils.errors import UserError
from utils.evaluation.clips import pair_files
from utils.evaluation.comparison import Comparison
from utils.evaluation.evaluator import Evaluator, MetricModels
from utils.media.video_reader import VideoReader
from utils.media.video_writer import EncoderSettings, VideoWriter

ROOT = Path(__file__).parent.parent


def run(*options, expect=0):
    command = [sys.executable, str(ROOT / "evaluate.py"), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == expect, done.stderr
    return done


def altered(source: Path, target: Path, change, rate=None, order=None) -> Path:
    """A nearly lossless copy of a video, each frame (I420) passed through `change`."""
    reader = VideoReader(source)
    frames = list(reader.frames())
    frames = [frames[i] for i in order] if order is not None else frames
    first = change(frames[0].yuv.copy())
    sound = source if reader.info.has_audio else None
    height, width = first.shape[0] * 2 // 3, first.shape[1]
    rate = rate or reader.info.rate
    with VideoWriter(
        target, width, height, rate, reader.info.colour, encoder=EncoderSettings(1, "ultrafast"), audio_path=sound
    ) as v:
        for frame in frames:
            v.write(change(frame.yuv.copy()))
    return target


def brighter(yuv, levels=10):
    yuv[: len(yuv) * 2 // 3] = np.clip(yuv[: len(yuv) * 2 // 3].astype(int) + levels, 0, 255)
    return yuv


def blurred(yuv):
    luma = yuv[: len(yuv) * 2 // 3]
    luma[:] = cv2.GaussianBlur(luma, (0, 0), 2)
    return yuv


def noisy(yuv):
    luma = yuv[: len(yuv) * 2 // 3]
    luma[:] = np.clip(luma + np.random.default_rng(int(luma[0, 0])).normal(0, 8, luma.shape), 0, 255)
    return yuv


def shrunk(yuv):
    size = yuv.shape[1]
    planes = [yuv[:size], *yuv[size:].reshape(2, size // 2, size // 2)]
    small = [cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for p in planes]
    return np.concatenate([small[0], np.stack(small[1:]).reshape(-1, size // 2)])


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    true = write_face_video(folder / "true.mp4", 14, audio=write_speech(folder / "speech.wav", 1.2))
    generated, reference = folder / "generated", folder / "reference"
    generated.mkdir()
    reference.mkdir()
    late = [0, 0, 0, *range(11)]
    for name, change, options in (
        ("same", lambda yuv: yuv, {}),
        ("blurred", blurred, {}),
        ("brighter", brighter, {}),
        ("noisy", noisy, {}),
        ("late", lambda yuv: yuv, {"order": late}),
        ("doubled", lambda yuv: yuv, {"rate": Fraction(50), "order": [i // 2 for i in range(28)]}),
        ("shrunk", shrunk, {}),
    ):
        suffix = "_facial_dubbing_add_audio" if name == "same" else ""
        altered(true, generated / f"{name}{suffix}.mp4", change, **options)
        (reference / f"{name}.mp4").hardlink_to(true)
    return folder


@pytest.fixture(scope="module")
def scored(media):
    results = media / "results"
    done = run(
        "--generated", media / "generated", "--reference", media / "reference", "--result_dir", results,
        "--landmark_dir", media / "landmarks",
    )  # fmt: skip
    content = json.loads((results / "results.json").read_text())
    clips = {clip["clip"]: clip for clip in content["clips"] if clip["row"] == "dubbed"}
    return SimpleNamespace(folder=results, content=content, clips=clips, output=done.stdout)


def test_changed_copies_score_as_they_were_changed(scored):
    same, blur, bright, noise, late = (scored.clips[n] for n in ("same", "blurred", "brighter", "noisy", "late"))
    assert same["psnr_crop"] == "inf" or same["psnr_crop"] > 50
    assert same["ssim_mouth"] > 0.995
    assert same["lmd_all"] < 0.003
    assert same["csim"] > 0.999
    level = 10 * 255 / 219  # of luma in the limited range
    assert bright["psnr_crop"] == pytest.approx(20 * math.log10(255 / level), abs=0.25)
    assert bright["l1_mouth"] == pytest.approx(level, abs=0.5)
    assert bright["ssim_crop"] > 0.95
    truth = next(c for c in scored.content["clips"] if c["row"] == "truth" and c["clip"] == "blurred")
    assert blur["sharpness_mouth"] < 0.6 * truth["sharpness_mouth"] < noise["sharpness_mouth"]
    assert noise["flicker_mouth"] > 1.5 * truth["flicker_mouth"]
    for worse in (blur, noise, late):
        assert worse["psnr_crop"] < same["psnr_crop"] if same["psnr_crop"] != "inf" else True
        assert worse["ssim_crop"] < same["ssim_crop"]
        assert worse["ms_ssim_mouth"] < same["ms_ssim_mouth"]
    assert late["lmd_all"] > 2 * same["lmd_all"]
    assert truth["psnr_crop"] == "inf"
    assert (truth["ssim_mouth"], truth["l1_crop"], truth["lmd_all"]) == (1, 0, 0)


def test_other_rates_and_sizes_are_matched(scored):
    doubled, shrunk_copy = scored.clips["doubled"], scored.clips["shrunk"]
    assert doubled["frames"] == 14
    assert doubled["ssim_crop"] > 0.99
    assert shrunk_copy["ssim_crop"] > 0.9
    assert shrunk_copy["lmd_all"] < 0.03


def test_report_files(scored):
    words = shlex.split(scored.content["command"])
    assert words[0] == "python" and words[1].endswith("evaluate.py") and words[2] == "--generated"
    with (scored.folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(row["row"] == "dubbed" and row["clip"] != "mean" for row in rows) == 7
    assert [row["row"] for row in rows if row["clip"] == "mean"] == ["truth", "dubbed"]
    needs = scored.content["not_measured"]
    for column, address in (("lse_d", "robots.ox.ac.uk"), ("lpips_crop", "alexnet"), ("fid_mouth", "inception")):
        assert scored.clips["same"].get(column) is None
        assert column not in needs or address in needs[column]
    assert "syncnet_v2.model" in scored.output
    strip = cv2.imread(str(scored.folder / "strips" / "blurred_given_dubbed.png"))
    assert strip.shape == (3 * 416, 6 * 320, 3)
    assert (scored.folder / "plots" / "late_given_dubbed.png").stat().st_size > 10_000
    assert not list(scored.folder.rglob("*.partial"))


@pytest.mark.slow
def test_lse_where_its_weights_are_given(media, tmp_path):
    torch.manual_seed(0)
    torch.save(ChungSyncNet().state_dict(), tmp_path / "syncnet_v2.model")
    options = ("--generated", media / "true.mp4", "--reference", media / "true.mp4", "--result_dir", tmp_path / "r",
               "--landmark_dir", media / "landmarks", "--lse_syncnet_path")  # fmt: skip
    done = run(*options, tmp_path / "syncnet_v2.model")
    assert "lse_d" in done.stdout
    clip = json.loads((tmp_path / "r/results.json").read_text())["clips"][0]
    assert clip["lse_d"] > 0 and clip["lse_c"] > 0 and -15 <= clip["lse_offset"] <= 15
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "other.model")
    for name, words in (
        ("other.model", "is not Chung and Zisserman's SyncNet"),
        ("none.model", "download http://www.robots"),
    ):
        line = run(*options, tmp_path / name, expect=2).stderr.strip().splitlines()
        assert len(line) == 1 and words in line[0], line


def test_landmarks_have_to_be_kept(media, tmp_path):
    done = run("--generated", media / "true.mp4", "--reference", media / "true.mp4", "--result_dir", tmp_path / "r",
               "--landmark_dir", "off", expect=2)  # fmt: skip
    assert "--landmark_dir: off is not possible here" in done.stderr


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda m, t: altered(m / "true.mp4", t, lambda y: y, order=range(1)), "too different"),
        (lambda m, t: altered(m / "true.mp4", t, lambda y: np.concatenate([y[:256], y[512:640]])), "the shapes differ"),
    ],
)
def test_videos_that_do_not_belong_together_are_refused(media, tmp_path, make, words):
    other = make(media, tmp_path / "other.mp4")
    done = run("--generated", other, "--reference", media / "true.mp4", "--result_dir", tmp_path / "r",
               "--landmark_dir", media / "landmarks", expect=2)  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert words in last
    assert "other.mp4" in last
    assert "Traceback" not in done.stderr


def test_mistakes_are_one_line(media, tmp_path):
    for options, words in (
        ([], "give either"),
        (["--generated", media / "generated"], "--reference is missing"),
        (["--checkpoint", media / "none.pth", "--clips", media / "true.mp4"], "--checkpoint"),
        (["--generated", media / "nothing.mp4", "--reference", media / "true.mp4"], "--generated"),
    ):
        done = run(*options, "--result_dir", tmp_path / "r", expect=2)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert words in done.stderr


def test_pairs_go_by_name(media, tmp_path):
    names = [name for name, _, _ in pair_files(media / "generated", media / "reference")]
    assert "same" in names
    (tmp_path / "stranger.mp4").hardlink_to(media / "true.mp4")
    with pytest.raises(Exception, match="has no video named stranger"):
        pair_files(tmp_path, media / "reference")


@pytest.mark.slow
def test_weights_are_scored_on_clips_with_baselines(media, tmp_path):
    network = DINet(3, 15, 80, feature_channel=32)
    network.load_state_dict(formula_state(network))
    metadata = Metadata(mouth_region_size=64, audio_feature="mel", audio_channel=80, feature_channel=32)
    write_checkpoint(tmp_path / "weights.pth", {"net_g": network}, {}, 1, metadata)
    sync = {"net": SyncNet(15, 80, 128)}
    write_checkpoint(tmp_path / "sync.pth", sync, {}, 1, Metadata(64, "mel", 80, 4))
    write_face_video(tmp_path / "a.mp4", 28, audio=media / "speech.wav")
    (tmp_path / "clips.txt").write_text("# one clip\na.mp4\n")
    speech = write_speech(tmp_path / "other.wav", 1.6, amplitude=0.2)
    done = run(
        "--checkpoint", tmp_path / "weights.pth", "--clips", tmp_path / "clips.txt", "--driving_audio", speech,
        "--syncnet_path", tmp_path / "sync.pth", "--baselines", "--result_dir", tmp_path / "r",
        "--landmark_dir", tmp_path / "landmarks", "--device", "cpu",
    )  # fmt: skip
    content = json.loads((tmp_path / "r" / "results.json").read_text())
    rows = {(row["task"], row["row"]): row for row in content["means"]}
    pasted = {("self", "pasted reference"), ("self", "pasted mean"), ("self", "untouched source")}
    assert pasted < rows.keys() >= {("self", "truth"), ("self", "dubbed"), ("cross", "dubbed")}
    assert ("cross", "untouched source") in rows
    assert "psnr_crop" not in rows["cross", "dubbed"], "the true pictures say other words"
    assert rows["self", "dubbed"]["psnr_mouth"] < rows["self", "pasted reference"]["psnr_mouth"]
    assert 36 < rows["self", "untouched source"]["psnr_mouth"] < math.inf
    assert math.isfinite(rows["cross", "untouched source"]["sync_confidence"])
    assert "cross: dubbed" in done.stdout


def test_what_cannot_be_scored_does_not_stop_the_rest(tmp_path, monkeypatch, caplog):
    def score_rows(self, comparisons, progress):
        bad = UserError("no face was found in bad.mp4")
        return [bad if c.clip == "bad" else SimpleNamespace(frames=25) for c in comparisons]

    evaluator = Evaluator(MetricModels(), tmp_path)
    monkeypatch.setattr(evaluator.videos, "analyze", lambda *_: None)
    monkeypatch.setattr(Evaluator, "score_rows", score_rows)
    given = [Comparison(clip, "given", "dubbed", Path(clip), Path(clip), None) for clip in ("good", "bad", "better")]
    assert len(evaluate.score_all(given, evaluator)) == 2
    assert "bad, given: dubbed is not scored: no face was found in bad.mp4" in caplog.messages
    with pytest.raises(UserError, match="no face was found"):
        evaluate.score_all(given[1:2], evaluator)
