"""Known answers of every figure, and the command as users run it."""

import csv
import json
import math
import subprocess
import sys
from dataclasses import astuple
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from helpers.sample_media import BT601, formula_state, write_face_video, write_speech
from python_speech_features import mfcc
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

import evaluate
from models.chung_syncnet import ChungSyncNet
from models.dinet import DINet
from models.syncnet import SyncNet
from utils.checkpoints import Metadata, write_checkpoint
from utils.errors import UserError
from utils.evaluation.clips import cut_sound, pair_files
from utils.evaluation.evaluator import Comparison, Evaluator, Instruments
from utils.evaluation.image_metrics import Flicker, compare, sharpness
from utils.evaluation.lip_metrics import MAX_LAG, compare_openings, lag_curve, landmark_distance, lips_and_sound
from utils.evaluation.lse import LipSyncErrorJudge, _face, face_boxes, judge_codes
from utils.evaluation.sync_confidence import SyncJudge
from utils.face.analysis import analyze_video
from utils.face.crop_geometry import CropBox
from utils.media.audio import Waveform, load_waveform, write_wav
from utils.media.video_reader import Frame, VideoReader
from utils.media.video_writer import EncoderSettings, VideoWriter
from utils.speech.features import KINDS, SpeechFeatures
from utils.speech.mel import mel_features

ROOT = Path(__file__).parent.parent
CONFIRMED_CLIPS = ("woman_address_512", "hdtf_man_glasses_512", "studio_actor_1080p_30fps", "stage_woman_256_30fps")


def run(*options, expect=0):
    command = [sys.executable, str(ROOT / "evaluate.py"), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == expect, done.stderr
    return done


def face():
    return cv2.resize(data.astronaut()[20:228, 140:300], (320, 416))


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


def test_picture_scores_are_those_of_the_libraries():
    true = face()
    other = np.clip(cv2.GaussianBlur(true, (0, 0), 1.5) + np.random.default_rng(0).normal(0, 6, true.shape), 0, 255)
    other = other.astype(np.uint8)
    (scores,) = compare(true, other)
    assert scores.psnr == pytest.approx(peak_signal_noise_ratio(true, other), abs=1e-6)
    library = structural_similarity(
        true, other, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert scores.ssim == pytest.approx(library, abs=1e-4)
    tensors = [torch.from_numpy(p).permute(2, 0, 1)[None].double() for p in (other, true)]
    library = multiscale_structural_similarity_index_measure(*tensors, data_range=255.0)
    assert scores.ms_ssim == pytest.approx(float(library), abs=5e-4)
    assert scores.l1 == pytest.approx(np.abs(true.astype(float) - other).mean())


def test_regions_score_as_if_they_had_been_cut_out():
    true = face()
    other = cv2.GaussianBlur(true, (0, 0), 2.0)
    mouth = slice(128, 384), slice(32, 288)
    whole, inside = compare(true, other, [(slice(None), slice(None)), mouth])
    assert [whole] == compare(true, other)
    (alone,) = compare(true[mouth], other[mouth])
    assert astuple(inside) == pytest.approx(astuple(alone), rel=1e-5)


def test_picture_scores_of_known_noise():
    noise = np.random.default_rng(1).normal(0, 9, (416, 320, 3)).round()
    true = np.full((416, 320, 3), 128, np.uint8)
    (scores,) = compare(true, (true + noise).astype(np.uint8))
    assert scores.psnr == pytest.approx(20 * math.log10(255 / 9), abs=0.05)
    assert scores.l1 == pytest.approx(9 * math.sqrt(2 / math.pi), rel=0.01)
    (equal,) = compare(true, true)
    assert (equal.psnr, equal.ssim, equal.ms_ssim, equal.l1) == (math.inf, 1, 1, 0)


def test_flicker_of_noise_and_of_steady_motion():
    rng, noise, motion = np.random.default_rng(2), Flicker(), Flicker()
    for step in range(5):
        noise.add((128 + rng.normal(0, 6, (64, 64, 3))).round().astype(np.uint8))
        motion.add(np.full((8, 8, 3), 20 + 7 * step, np.uint8))
    assert np.mean(noise.values) == pytest.approx(6 * math.sqrt(3 / math.pi), rel=0.03)
    assert motion.values == [0, 0, 0]
    motion.add(None)
    motion.add(np.zeros((8, 8, 3), np.uint8))
    assert len(motion.values) == 3, "nothing is compared over a gap"


def test_sharpness_falls_with_blur():
    assert sharpness(cv2.GaussianBlur(face(), (0, 0), 2)) < 0.3 * sharpness(face())


def test_lag_is_positive_where_the_second_is_late():
    signal = np.random.default_rng(3).normal(size=200)
    assert lag_curve(signal[3:], signal[:-3]).lag == 3
    assert lag_curve(signal[:-5], signal[5:]).lag == -5
    curve = lag_curve(signal, signal)
    assert (curve.lag, curve.unshifted) == (0, pytest.approx(1))
    assert np.isnan(lag_curve(signal, np.zeros(200)).lag), "still lips have no lag"
    assert np.isnan(lag_curve(signal[:10], signal[:10]).lag), "too short"


def made_up_lips(opening):
    points = np.zeros((len(opening), 68, 2), np.float32)
    points[:, 45, 0] = 100
    points[:, 66, 1] = opening
    return points


def test_lips_late_by_three_frames_and_their_distance():
    opening = 10 + np.random.default_rng(4).normal(size=100).cumsum()
    true = made_up_lips(np.abs(opening))
    assert compare_openings(true[3:], true[:-3]).lag == 3
    moved = true.copy()
    moved[:, 48:68, 0] += 5
    everything, mouth = landmark_distance(true, moved)
    assert mouth == pytest.approx(0.05)
    assert everything == pytest.approx(0.05 * 20 / 68)


@pytest.mark.parametrize("late", [-4, 0, 3])
def test_lag_of_the_sound(late):
    rng = np.random.default_rng(5)
    opening = np.abs(np.convolve(rng.normal(size=160), np.ones(4), "same"))
    level = np.repeat(np.roll(opening, late), 4)[:, None] + rng.normal(0, 0.1, (640, 80))
    curve = lips_and_sound(made_up_lips(10 * opening), level)
    assert curve.lag == late
    assert curve.peak > 0.9


class Clockwork(torch.nn.Module):
    """A SyncNet for pictures whose brightness, and sound whose value, tell the time."""

    def face_encoder(self, image):
        return image.mean((1, 2, 3), keepdim=True) * 255

    def audio_encoder(self, audio):
        return audio.mean((1, 2), keepdim=True)[..., None]

    def score(self, face, code):
        return -(face - code).abs()


@pytest.mark.parametrize("late", [-2, 0, 3])
def test_sync_offset_of_shifted_sound(late):
    yuv = [np.full((96, 64), 128, np.uint8) for _ in range(60)]
    for index, frame in enumerate(yuv):
        frame[:64] = 40 + 2 * index
    reader = SimpleNamespace(
        info=SimpleNamespace(colour=BT601),
        timeline=lambda rate: np.arange(60),
        play=lambda order: (Frame(yuv[i], i, i / 25) for i in order),
    )
    plan = SimpleNamespace(usable=np.ones(60, bool), box=lambda frame: CropBox(0, 64, 0, 64))
    brightness = (np.array([40 + 2 * i for i in range(-40, 100)]) - 16) * 255 / 219
    values = np.repeat(brightness[40 - late : 40 - late + 60], 4)[:, None].repeat(80, 1).astype(np.float32)
    curve = SyncJudge(Clockwork(), 64, torch.device("cpu")).curve(reader, plan, SpeechFeatures(KINDS["mel"], values))
    assert curve.offset == late
    assert curve.confidence > 0
    assert len(curve.score) == 2 * MAX_LAG + 1


def test_lip_sync_error_is_that_of_a_plain_loop():
    generator = torch.Generator().manual_seed(6)
    heard = torch.randn(40, 8, generator=generator)
    places = torch.tensor([*range(4, 20), *range(25, 33)])
    seen = heard[places + 3] + 0.1 * torch.randn(len(places), 8, generator=generator)
    error = judge_codes(seen, places, heard)
    means = []
    for shift in range(-15, 16):
        distances = []
        for code, place in zip(seen, places.tolist(), strict=True):
            other = heard[place + shift] if 0 <= place + shift < 40 else torch.zeros(8)
            distances.append(((code - other + 1e-6) ** 2).sum().sqrt().item())
        means.append(sum(distances) / len(distances))
    assert error.distance == pytest.approx(min(means), rel=1e-5)
    assert error.confidence == pytest.approx(sorted(means)[15] - min(means), rel=1e-5)
    assert error.offset == -3


class Listener(torch.nn.Module):
    """Notes what the network of Chung and Zisserman would be given."""

    def __init__(self):
        super().__init__()
        self.seen, self.heard = [], []

    def encode_video(self, faces):
        self.seen += list(faces)
        return faces.mean((2, 3, 4))

    def encode_audio(self, sound):
        self.heard += list(sound)
        return sound.mean((2, 3))[:, [0, 0, 0]]


def test_lip_sync_error_shows_the_network_what_it_was_trained_on(tmp_path):
    """Ten frames, each of its own grey but for a red stripe across the face; 29 frames of sound (no float rounding)."""
    size, frames = 256, 29
    points = np.full((frames, 68, 2), 128.0)
    points[:, 0], points[:, 16], points[:, 8], points[:, 19] = (88, 128), (168, 128), (128, 178), (128, 100)
    with VideoWriter(tmp_path / "v.mp4", size, size, Fraction(25), BT601, encoder=EncoderSettings(1)) as writer:
        for number in range(frames):
            yuv = np.full((size * 3 // 2, size), 128, np.uint8)
            yuv[:size] = 40 + 5 * number
            yuv[size:][: size // 4] = 128
            yuv[size + size // 4 :] = 200  # V: reddish
            writer.write(yuv)
    reader = VideoReader(tmp_path / "v.mp4")
    judge = LipSyncErrorJudge.__new__(LipSyncErrorJudge)
    judge.network, judge.device = Listener(), torch.device("cpu")
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 640 * frames).astype(np.float32)
    judge.measure(SimpleNamespace(reader=reader, plan=SimpleNamespace(points=points)), Waveform(samples, 16000))
    network = judge.network
    assert len(network.heard) == len(network.seen) == frames - 5
    rows = mfcc((samples * 32767).round().astype(np.int16), 16000)
    for number in (0, 7, frames - 6):
        assert np.allclose(network.heard[number][0].T, rows[4 * number : 4 * number + 20], rtol=1e-4, atol=1e-3)
    faces = network.seen[7]
    assert faces.shape == (3, 5, 224, 224)
    true = [next(reader.play([7 + i])) for i in range(5)]
    for i, frame in enumerate(true):
        red, green, blue = cv2.cvtColor(frame.yuv, cv2.COLOR_YUV2RGB_I420)[128, 128]
        assert red > blue + 20
        for channel, value in zip(faces[:, i], (blue, green, red), strict=True):
            assert channel[112, 112].item() == pytest.approx(value, abs=6)


def test_lip_sync_error_cuts_the_face_as_published():
    """Side 2.8 times the box's half, 0.4 of it beyond the box to each side and above, 0.8 of it below."""
    x, y = np.meshgrid(np.arange(400), np.arange(400))
    reds = {}
    for name, ramp in (("x", x), ("y", y)):
        yuv = np.full((600, 400), 128, np.uint8)
        yuv[:400] = 16 + ramp * 219 // 400
        reds[name] = _face(yuv, np.array([200.0, 180.0, 80.0]), BT601)[..., 1].astype(float) * 400 / 255
    assert reds["x"][112, 0] == pytest.approx(200 - 112, abs=3)
    assert reds["x"][112, -1] == pytest.approx(200 + 112, abs=3)
    assert reds["y"][0, 112] == pytest.approx(180 - 80, abs=3)
    assert reds["y"][-1, 112] == pytest.approx(180 + 144, abs=3)


def test_the_network_of_lip_sync_error_has_the_names_of_its_published_weights():
    shapes = {name: tuple(value.shape) for name, value in ChungSyncNet().state_dict().items()}
    for name, shape in {
        "netcnnaud.0.weight": (64, 1, 3, 3),
        "netcnnaud.14.weight": (256, 256, 3, 3),
        "netcnnaud.18.weight": (512, 256, 5, 4),
        "netcnnaud.19.running_mean": (512,),
        "netcnnlip.0.weight": (96, 3, 5, 7, 7),
        "netcnnlip.14.weight": (256, 256, 1, 3, 3),
        "netcnnlip.18.weight": (512, 256, 1, 6, 6),
        "netfcaud.1.weight": (512,),
        "netfclip.3.weight": (1024, 512),
    }.items():
        assert shapes[name] == shape, name


def test_a_face_box_reaches_above_the_brows_and_stands_still():
    points = np.zeros((30, 68, 2), np.float32)
    points[:, 0], points[:, 16], points[:, 8], points[:, 19] = (100, 150), (200, 150), (150, 230), (140, 100)
    points[:, 1:68, 0] = np.clip(points[:, 1:68, 0], 100, 200)
    points[:, :, 1] = np.clip(points[:, :, 1], 100, 230)
    points[10, :, 0] += 50  # one frame whose landmarks jumped
    points[20] = np.nan
    boxes = face_boxes(points)
    assert np.isnan(boxes[20]).all()
    assert np.allclose(np.delete(boxes, 20, 0), (150, (230 + 100 - 0.3 * 130) / 2, 130 * 1.3 / 2))


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
    assert "evaluate.py --generated" in scored.content["command"]
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
def test_lip_sync_error_where_its_weights_are_given(media, tmp_path):
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


@pytest.mark.slow
def test_lpips_where_its_weights_are(tmp_path, monkeypatch):
    from torchvision.models import alexnet

    from utils.evaluation.lpips_fid import ALEXNET, INCEPTION, PerceptualDistance

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert ALEXNET.name in ALEXNET.missing("LPIPS")
    ALEXNET.path.parent.mkdir(parents=True)
    torch.save(alexnet().state_dict(), ALEXNET.path)  # random: what matters is which file is used, and 0 for equals
    assert ALEXNET.missing("LPIPS") is None
    true, other = [face()] * 2, [cv2.GaussianBlur(face(), (0, 0), 3)] * 2
    distance = PerceptualDistance(torch.device("cpu"))
    distance.add(true, true)
    assert distance.value() == 0
    distance.add(true, other)
    assert distance.value() > 0
    assert INCEPTION.name in INCEPTION.missing("FID")


@pytest.mark.clips
def test_sound_late_by_three_frames_is_found_on_real_clips(clips_dir, tmp_path):
    found = {}
    for name in CONFIRMED_CLIPS:
        path = clips_dir / f"{name}.mp4"
        prepared = analyze_video(path, None)
        points = prepared.plan.points[prepared.reader.timeline(Fraction(25))]
        sound = load_waveform(path, "--clips")
        late = Waveform(np.concatenate([np.zeros(3 * 640, np.float32), sound.samples]), sound.rate)
        write_wav(tmp_path / "late.wav", late)
        before, after = (
            lips_and_sound(points, mel_features(w)) for w in (sound, load_waveform(tmp_path / "late.wav", "x"))
        )
        found[name] = after.lag - before.lag
    assert found == dict.fromkeys(CONFIRMED_CLIPS, 3)


@pytest.mark.clips
def test_other_words_are_compared_with_the_lips_that_spoke_them(clips_dir, tmp_path):
    speaker, other = clips_dir / "woman_address_512.mp4", clips_dir / "man_maps_844.mp4"
    evaluator = Evaluator(Instruments(), tmp_path)
    found = {}
    for name, dub in (("speaker", speaker), ("other", other)):
        comparison = Comparison("clip", "cross", "dubbed", dub, dub, None, same_words=False, driver=speaker)
        found[name] = evaluator.score(comparison).values["opening_correlation"]
    assert found["speaker"] == pytest.approx(1)
    assert found["other"] < 0.8


@pytest.mark.parametrize("whole", [False, True])
def test_own_words_that_end_before_the_picture_are_followed_by_silence(tmp_path, whole):
    write_speech(tmp_path / "short.wav", 0.6)
    cut_sound(tmp_path / "short.wav", 1.6, tmp_path / "cut.wav", "--clips", whole)
    assert load_waveform(tmp_path / "cut.wav", "-").duration == pytest.approx(1.6 if whole else 0.6, abs=0.001)


def test_what_cannot_be_scored_does_not_stop_the_rest(tmp_path, monkeypatch, caplog):
    def score(self, comparison, progress):
        if comparison.clip == "bad":
            raise UserError("--reference: no face was found in bad.mp4")
        return SimpleNamespace(frames=25)

    monkeypatch.setattr("utils.evaluation.clips.detect_landmarks", lambda *_: None)
    monkeypatch.setattr(Evaluator, "score", score)
    given = [Comparison(clip, "given", "dubbed", Path(clip), Path(clip), None) for clip in ("good", "bad", "better")]
    options = SimpleNamespace(landmark_dir=tmp_path, workers=1)
    assert len(evaluate.score_all(given, Instruments(), options)) == 2
    assert "bad, given: dubbed is not scored: --reference: no face was found in bad.mp4" in caplog.messages
    with pytest.raises(UserError, match="no face was found"):
        evaluate.score_all(given[1:2], Instruments(), options)


def test_face_videos_and_hidden_files_are_not_scored(tmp_path):
    for name in ("a.mp4", "a_synthetic_face.mp4", ".b.mp4"):
        (tmp_path / name).write_bytes(b"x")
    assert [pair[0] for pair in pair_files(tmp_path, tmp_path)] == ["a"]
