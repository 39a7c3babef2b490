"""The whole way: command line to video file."""

import io
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from helpers.deepspeech_graph import write_frozen_graph
from helpers.sample_media import formula_state, write_face_video, write_speech

import inference
from config.inference import InferenceParser
from models.dinet import DINet
from models.syncnet import SyncNet
from utils.checkpoints import Metadata, write_checkpoint
from utils.dubbing import DubbingJob, DubbingOptions, LoadSettings, load_dubber
from utils.dubbing import engine as dubbing
from utils.dubbing.engine import Dubber
from utils.dubbing.face_blend import FaceBlender
from utils.dubbing.job_list import ListedJob, read_jobs
from utils.dubbing.run import Speech, ping_pong
from utils.errors import UserError, run_script
from utils.face.crop_geometry import mouth_region
from utils.media.audio import Waveform, load_waveform, write_wav
from utils.media.video_reader import VideoReader
from utils.progress import progress_bars
from utils.speech.extractor import FeatureExtractor

ROOT = Path(__file__).parent.parent


class Echo:
    """Gives back its own unmasked input: what is left is what the rest of the engine does to a picture."""

    mouth_region_size = 256
    device = torch.device("cpu")

    def __init__(self):
        self.seen_audio = []

    def set_references(self, references):
        assert references.shape == (5, 3, 416, 320)
        self.references = references

    def __call__(self, crops, audio, first_row=0):
        self.seen_audio.append(audio)
        return crops


class Paint(Echo):
    """Paints a negative."""

    def __call__(self, crops, audio, first_row=0):
        return 1 - crops


def read_speech(path):
    features, duration = FeatureExtractor("mel").extract(path, "--driving_audio_path")
    return Speech(features, duration, path)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    write_face_video(folder / "face.mp4")
    write_speech(folder / "speech.wav")
    state = DINet(3, 15, 29)
    state.load_state_dict(formula_state(state))
    write_checkpoint(folder / "published.pth", {"net_g": state}, {}, 160, Metadata())
    mel = DINet(3, 15, 80)
    mel.load_state_dict(formula_state(mel))
    metadata = Metadata(mouth_region_size=64, audio_feature="mel", audio_channel=80, audio_rows_per_frame=4)
    write_checkpoint(folder / "mel64.pth", {"net_g": mel}, {}, 1, metadata)
    narrow = DINet(3, 15, 80, feature_channel=32)
    metadata = replace(metadata, feature_channel=32)
    average = {key: torch.zeros_like(value) for key, value in narrow.state_dict().items()}
    write_checkpoint(folder / "narrow64.pth", {"net_g": narrow, "net_g_ema": average}, {}, 1, metadata)
    write_checkpoint(folder / "syncnet.pth", {"net": SyncNet(15, 29, 128)}, {}, 1, Metadata())
    return folder


@pytest.fixture(scope="module")
def landmark_csv(media):
    """Landmarks of face.mp4 as the detector writes them."""
    dubber = Dubber(Echo(), read_speech, media / "landmarks")
    dubber.dub(DubbingJob(media / "face.mp4", media / "speech.wav", media / "first.mp4"))
    (found,) = (media / "landmarks").glob("face_*.csv")
    return Path(shutil.copy(found, media / "face.csv"))


def frames_of(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def psnr(first, second):
    return cv2.PSNR(first, second)


@pytest.mark.parametrize("blend", ["face", "feather", "hard"])
def test_a_generator_that_changes_nothing_gives_back_the_source(media, landmark_csv, tmp_path, blend):
    job = DubbingJob(media / "face.mp4", media / "speech.wav", tmp_path / "out.mp4", landmark_csv)
    report = Dubber(Echo(), read_speech).dub(job, DubbingOptions(blend=blend))
    source, result = frames_of(media / "face.mp4"), frames_of(tmp_path / "out.mp4")
    assert len(result) == report.frames == 25
    for old, new in zip(source, result, strict=False):
        assert psnr(old, new) > 40
        assert psnr(old[60:260, 150:350], new[60:260, 150:350]) > 36


def test_width_and_average_of_the_weights_are_taken_from_the_file(media):
    network = load_dubber(LoadSettings(str(media / "narrow64.pth"), device="cpu")).generator.network
    assert network.feature_channel == 32
    assert not any(value.any() for value in network.state_dict().values())


def test_only_the_mouth_region_and_its_ring_change(media, landmark_csv, tmp_path):
    job = DubbingJob(media / "face.mp4", media / "speech.wav", tmp_path / "out.mp4", landmark_csv)
    dubber = Dubber(Paint(), read_speech)
    dubber.dub(job, DubbingOptions(blend="feather", crf=5))
    reader = VideoReader(media / "face.mp4")
    from utils.face.analysis import analyze_video

    plan = analyze_video(media / "face.mp4", landmark_csv).plan
    result = VideoReader(tmp_path / "out.mp4")
    for old, new in zip(reader.frames(), result.frames(), strict=False):
        box, radius = plan.box(old.index), int(plan.radius[old.index])
        changed = np.abs(old.luma.astype(int) - new.luma) > 25
        rows, columns = np.nonzero(changed)
        ring = radius // 4
        assert rows.min() >= box.top + radius - ring
        assert rows.max() < box.top + 3 * radius + ring
        assert columns.min() >= box.left
        assert columns.max() < box.right
        inside = changed[box.top + radius + 4 : box.top + 3 * radius - 4, box.left + ring + 4 : box.right - ring - 4]
        assert inside.mean() > 0.7


@pytest.mark.parametrize(("fps", "expected"), [(None, Fraction(25)), (Fraction(30), Fraction(30))])
def test_rate_length_and_sound_of_the_result(media, landmark_csv, tmp_path, fps, expected):
    job = DubbingJob(media / "face.mp4", media / "speech.wav", tmp_path / "out.mp4", landmark_csv)
    Dubber(Echo(), read_speech).dub(job, DubbingOptions(fps=fps))
    with av.open(str(tmp_path / "out.mp4")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.average_rate == expected
        assert (video.width, video.height) == (512, 512)
        assert video.frames == round(expected)
        assert abs(float(video.duration * video.time_base) - 1) < 1 / expected
        assert audio.codec_context.name == "aac"
        assert abs(float(audio.duration * audio.time_base) - 1) < 1 / expected
        assert "AI-generated" in container.metadata["comment"]


def test_longer_speech_plays_the_video_forward_and_backward(media, landmark_csv, tmp_path):
    write_speech(tmp_path / "long.wav", 3.5)
    job = DubbingJob(media / "face.mp4", tmp_path / "long.wav", tmp_path / "out.mp4", landmark_csv)
    Dubber(Echo(), read_speech).dub(job)
    source, result = frames_of(media / "face.mp4"), frames_of(tmp_path / "out.mp4")
    assert len(result) == 88
    for new, index in zip(result, ping_pong(88, 30), strict=True):
        assert psnr(source[index], new) > 38
    assert list(ping_pong(8, 3)) == [0, 1, 2, 1, 0, 1, 2, 1]
    assert list(ping_pong(3, 1)) == [0, 0, 0]


def test_a_picture_is_a_source_too(tmp_path, media):
    from skimage import data

    cv2.imwrite(str(tmp_path / "portrait.png"), data.astronaut()[:, :, ::-1])
    job = DubbingJob(tmp_path / "portrait.png", media / "speech.wav", tmp_path / "out.mp4")
    report = Dubber(Echo(), read_speech).dub(job)
    result = frames_of(tmp_path / "out.mp4")
    assert len(result) == report.frames == 25
    assert report.references == [0] * 5


def test_frames_without_a_face_pass_through(media, tmp_path):
    write_face_video(tmp_path / "gap.mp4", frames=60, blank=range(20, 40))
    write_speech(tmp_path / "long.wav", 2.4)
    job = DubbingJob(tmp_path / "gap.mp4", tmp_path / "long.wav", tmp_path / "out.mp4")
    report = Dubber(Paint(), read_speech).dub(job, DubbingOptions(blend="feather"))
    assert 15 <= report.untouched_frames <= 25
    source, result = frames_of(tmp_path / "gap.mp4"), frames_of(tmp_path / "out.mp4")
    assert all(psnr(source[i], result[i]) > 35 for i in range(21, 39))
    assert psnr(source[5], result[5]) < 28
    assert psnr(source[50], result[50]) < 28


def test_speech_windows_follow_the_time_of_the_frame(media, landmark_csv, tmp_path):
    job = DubbingJob(media / "face.mp4", media / "speech.wav", tmp_path / "out.mp4", landmark_csv)
    echo = Echo()
    Dubber(echo, read_speech).dub(job, DubbingOptions(blend="feather", fps=Fraction(50)))
    seen = torch.cat(echo.seen_audio)
    values = read_speech(media / "speech.wav").features.values
    assert seen.shape == (50, 80, 20)
    # Frame 20 at 50 fps is at 0.4 s: mel rows 32 .. 51.
    assert torch.equal(seen[20], torch.from_numpy(values[32:52].T.copy()))


def test_references_given_by_hand_and_drawn_with_a_seed(media, landmark_csv, tmp_path):
    job = DubbingJob(media / "face.mp4", media / "speech.wav", tmp_path / "out.mp4", landmark_csv)
    dubber = Dubber(Echo(), read_speech)
    assert dubber.dub(job, DubbingOptions(reference_frames="7,3")).references == [7, 3, 7, 3, 7]
    draws = [dubber.dub(job, DubbingOptions(reference_selection="random", seed=s)).references for s in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_the_second_run_finds_the_landmarks_of_the_first(media, landmark_csv, tmp_path):
    dubber = Dubber(Echo(), read_speech, media / "landmarks")
    report = dubber.dub(DubbingJob(media / "face.mp4", media / "speech.wav", tmp_path / "second.mp4"))
    assert "landmarks" not in report.seconds
    assert (tmp_path / "second.mp4").read_bytes() == (media / "first.mp4").read_bytes()


def test_the_mask_hides_the_mouth_from_the_network(media):
    seen = {}

    class Network(torch.nn.Module):
        def encode_reference(self, reference):
            seen["reference"] = reference
            return "code"

        def generate(self, source, code, audio, first_row):
            seen.setdefault("sources", []).append(source)
            return source

    from utils.dubbing.generator import DINetMouthGenerator

    generator = DINetMouthGenerator(Network(), 64, torch.device("cpu"), torch.float32)
    generator.set_references(torch.rand(5, 3, 104, 80))
    crops = torch.rand(2, 3, 104, 80)
    generator(crops, torch.zeros(2, 29, 5))
    assert seen["reference"].shape == (1, 15, 104, 80)
    rows, columns = mouth_region(64)
    source = torch.cat(sorted(seen["sources"], key=lambda one: (one[0, 0, 0, 0] != crops[0, 0, 0, 0]).item()))
    assert (source[:, :, rows, columns] == 0).all()
    outside = torch.ones(104, 80, dtype=bool)
    outside[rows, columns] = False
    assert torch.equal(source[:, :, outside], crops[:, :, outside])


def run_in_process(monkeypatch, capfd, arguments):
    """Run inference.py's main; returns (exit status, lines on stderr that are no progress)."""
    monkeypatch.setattr(sys, "argv", ["inference.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        run_script(inference.main)
    text = capfd.readouterr().err
    return stop.value.code, [line for line in text.splitlines() if line.strip() and not re.search(r"\d+frame|\|", line)]


@pytest.mark.slow
def test_published_command_line_runs_as_written(media, landmark_csv, tmp_path):
    """The inference lines of the published README, letter by letter, from the project's root of a fresh copy."""
    examples = tmp_path / "asserts" / "examples"
    examples.mkdir(parents=True)
    shutil.copy(media / "face.mp4", examples / "testxxx.mp4")
    shutil.copy(landmark_csv, examples / "testxxx.csv")
    write_speech(examples / "driving_audio_xxx.wav", 0.16)
    shutil.copy(media / "published.pth", tmp_path / "asserts" / "clip_training_DINet_256mouth.pth")
    write_frozen_graph(tmp_path / "asserts" / "output_graph.pb")
    lines = [
        "python inference.py --mouth_region_size=256 --source_video_path=./asserts/examples/testxxx.mp4 "
        "--source_openface_landmark_path=./asserts/examples/testxxx.csv "
        "--driving_audio_path=./asserts/examples/driving_audio_xxx.wav "
        "--pretrained_clip_DINet_path=./asserts/clip_training_DINet_256mouth.pth  ",
        "python inference.py --mouth_region_size=256 --source_video_path= custom video path "
        "--source_openface_landmark_path=  detected landmark path --driving_audio_path= driving audio path "
        "--pretrained_clip_DINet_path=./asserts/clip_training_DINet_256mouth.pth",
    ]
    shutil.copy(media / "face.mp4", tmp_path / "custom video path")
    shutil.copy(landmark_csv, tmp_path / "detected landmark path")
    shutil.copy(examples / "driving_audio_xxx.wav", tmp_path / "driving audio path")
    for line, name in zip(lines, ("testxxx", "custom video path"), strict=True):
        words = line.split()
        # Four faces instead of 16 to prepare the blending: the published network takes seconds for one.
        code = "import utils.dubbing.run as run; run.ERROR_SAMPLES = 4; import inference; inference.command()"
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code, *words[2:]]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "frames per second" in done.stderr
        result = tmp_path / "asserts" / "inference_result" / f"{name}_facial_dubbing_add_audio.mp4"
        assert len(frames_of(result)) == 4


def test_landmarks_need_not_be_kept(media, monkeypatch, capfd, tmp_path):
    write_speech(tmp_path / "short.wav", 0.16)
    monkeypatch.chdir(tmp_path)
    arguments = ["--source_video_path", media / "face.mp4", "--driving_audio_path", "short.wav"]
    arguments += [
        "--pretrained_clip_DINet_path",
        media / "mel64.pth",
        "--res_video_dir",
        "results",
        "--landmark_dir",
        "off",
    ]
    status, lines = run_in_process(monkeypatch, capfd, arguments)
    assert status == 0, lines
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "short.wav"]


def test_weights_of_ours_need_no_flags(media, monkeypatch, capfd, tmp_path):
    write_speech(tmp_path / "short.wav", 0.16)
    arguments = ["--source_video_path", media / "face.mp4", "--driving_audio_path", tmp_path / "short.wav"]
    arguments += ["--pretrained_clip_DINet_path", media / "mel64.pth", "--res_video_dir", tmp_path / "new" / "folder"]
    arguments += ["--landmark_dir", tmp_path / "landmarks", "--save_face_video"]
    status, lines = run_in_process(monkeypatch, capfd, arguments)
    assert status == 0, lines
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "face_facial_dubbing_add_audio.mp4",
        "face_synthetic_face.mp4",
    ]
    assert frames_of(tmp_path / "new" / "folder" / "face_synthetic_face.mp4")[0].shape == (104, 80)


def test_without_options_the_example_is_dubbed_with_the_published_weights_or_those_that_ship(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    options = InferenceParser().parse_args([])
    inference.take_example(options)
    assert options.source_video_path == ROOT / "asserts/example/astronaut.mp4" and options.source_video_path.is_file()
    assert options.driving_audio_path == ROOT / "asserts/example/speech.wav" and options.driving_audio_path.is_file()
    assert options.pretrained_clip_DINet_path == ROOT / "asserts/demo/DINet_demo.pth"
    published = Path("asserts/clip_training_DINet_256mouth.pth")
    published.parent.mkdir()
    published.touch()
    assert InferenceParser().parse_args([]).pretrained_clip_DINet_path == published


def test_many_jobs_in_one_run(media, monkeypatch, capfd, caplog, tmp_path):
    caplog.set_level("INFO")
    for name in ("one", "two"):
        write_speech(tmp_path / f"{name}.wav", 0.16)
    (tmp_path / "jobs.csv").write_text(
        "source, audio, result\n"
        f"{media / 'face.mp4'}, {tmp_path / 'one.wav'}, {tmp_path / 'first.mp4'}\n"
        f"{media / 'face.mp4'}, {tmp_path / 'nowhere.wav'},\n"
        f"{media / 'face.mp4'}, {tmp_path / 'two.wav'},\n"
    )
    reads = []
    real = dubbing.analyze_video
    monkeypatch.setattr(dubbing, "analyze_video", lambda *options: reads.append(options[0]) or real(*options))
    arguments = ["--jobs", tmp_path / "jobs.csv", "--pretrained_clip_DINet_path", media / "mel64.pth"]
    arguments += ["--res_video_dir", tmp_path / "results", "--landmark_dir", tmp_path / "landmarks", "--resume"]
    status, _ = run_in_process(monkeypatch, capfd, arguments)
    assert status == 1
    assert (
        f"{tmp_path / 'jobs.csv'}, line 3 failed: --driving_audio_path: {tmp_path / 'nowhere.wav'} does not exist; "
        "check the path" in caplog.messages
    )
    assert caplog.messages[-1] == "2 of 3 jobs dubbed, 0 there already, 1 failed"
    early = f"{tmp_path / 'jobs.csv'}, line 3: there is no file {tmp_path / 'nowhere.wav'}; this job will fail"
    assert caplog.messages.index(early) < next(n for n, text in enumerate(caplog.messages) if "job 1 of 3" in text)
    assert len(frames_of(tmp_path / "first.mp4")) == 4
    assert len(frames_of(tmp_path / "results" / "face_two_facial_dubbing_add_audio.mp4")) == 4
    assert len(reads) == 1  # the second one with the same source has it prepared
    write_speech(tmp_path / "nowhere.wav", 0.16)
    status, _ = run_in_process(monkeypatch, capfd, arguments)
    assert (status, caplog.messages[-1]) == (0, "1 of 3 jobs dubbed, 2 there already, 0 failed")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("j.csv", "source,sound\na,b\n", "line 2 has no audio"),
        ("j.csv", "source,audio,face\na,b,c\n", "line 2 has 'face', which is not understood"),
        ("j.csv", "source,audio\n", "names no job"),
        ("j.jsonl", "source,audio\n", "cannot be read"),
        ("j.jsonl", '{"source": "a", "audio": 3}\n', "line 1 has 'audio', which is not understood"),
        ("j.jsonl", "[1]\n", "a line is not an object"),
    ],
)
def test_a_wrong_list_of_jobs_is_refused(tmp_path, name, content, problem):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=f"^--jobs: .*{problem}"):
        read_jobs(tmp_path / name, tmp_path)


def test_jobs_as_json_lines(tmp_path):
    (tmp_path / "j.jsonl").write_text('{"source": "a.mp4", "audio": "b.wav", "landmarks": "c.csv"}\n\n')
    (job,) = read_jobs(tmp_path / "j.jsonl", Path("results"))
    assert job == ListedJob(
        1,
        tmp_path / "a.mp4",
        tmp_path / "b.wav",
        Path("results/a_b_facial_dubbing_add_audio.mp4"),
        tmp_path / "c.csv",
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            ["--driving_audio_path", "a.wav"],
            "--source_video_path: is needed; give a file, or a list of videos with --jobs",
        ),
        (["--source_video_path", "a.mp4", "--jobs", "b.csv"], "--jobs: names sources, audio and landmarks"),
    ],
)
def test_a_source_or_a_list_of_jobs_is_needed(options, problem):
    with pytest.raises(UserError, match=f"^{problem}"):
        inference.check_files(InferenceParser().parse_args(options))


def garbage(path, size=5000):
    path.write_bytes(np.random.default_rng(0).integers(0, 256, size, np.uint8).tobytes())
    return path


def text(path, content="this is no such file\n"):
    path.write_text(content)
    return path


def truncated(path, original, share=0.5):
    data = original.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def first_lines(path, original, count):
    path.write_text("".join(original.read_text().splitlines(keepends=True)[:count]))
    return path


def silent_video(path):
    from skimage import data

    from utils.media.video_writer import VideoWriter
    from utils.media.yuv import set_rgb_patch

    with VideoWriter(path, 128, 128, Fraction(25), VideoReader(FACE["face"]).info.colour) as writer:
        for _ in range(10):
            yuv = np.empty((192, 128), np.uint8)
            set_rgb_patch(
                yuv, 0, 0, np.ascontiguousarray(data.cat()[:128, :128]), VideoReader(FACE["face"]).info.colour
            )
            writer.write(yuv)
    return path


FACE = {}


def folder(path):
    path.mkdir()
    return path


def replaced(path, original, old, new, count=-1):
    path.write_text(original.read_text().replace(old, new, count))
    return path


SOURCE, CSV, AUDIO, WEIGHTS, RESULT = (
    "--source_video_path",
    "--source_openface_landmark_path",
    "--driving_audio_path",
    "--pretrained_clip_DINet_path",
    "--res_video_dir",
)

BAD = {
    "missing video": (SOURCE, lambda t, m: t / "none.mp4", "does not exist"),
    "video is a folder": (SOURCE, lambda t, m: folder(t / "x.mp4"), "folder"),
    "empty video": (SOURCE, lambda t, m: text(t / "x.mp4", ""), "empty"),
    "text named mp4": (SOURCE, lambda t, m: text(t / "x.mp4"), "x.mp4"),
    "garbage named mp4": (SOURCE, lambda t, m: garbage(t / "x.mp4"), "x.mp4"),
    "truncated mp4": (SOURCE, lambda t, m: truncated(t / "x.mp4", m / "face.mp4", 0.02), "x.mp4"),
    "sound as video": (SOURCE, lambda t, m: m / "speech.wav", "no picture"),
    "video without a face": (SOURCE, lambda t, m: silent_video(t / "cat.mp4"), "no face"),
    "missing csv": (CSV, lambda t, m: t / "none.csv", "does not exist"),
    "csv is a folder": (CSV, lambda t, m: folder(t / "x.csv"), "folder"),
    "empty csv": (CSV, lambda t, m: text(t / "x.csv", ""), "empty"),
    "csv of other columns": (CSV, lambda t, m: text(t / "x.csv", "a, b\n1, 2\n"), "column"),
    "csv of the header alone": (
        CSV,
        lambda t, m: text(t / "x.csv", (m / "face.csv").read_text().split("\n")[0]),
        "x.csv",
    ),
    "csv with words for numbers": (
        CSV,
        lambda t, m: replaced(t / "x.csv", m / "face.csv", "\n", "\nabc", 9),
        "and 8 more",
    ),
    "binary csv": (CSV, lambda t, m: garbage(t / "x.csv"), "x.csv"),
    "csv cut off in a line": (
        CSV,
        lambda t, m: truncated(t / "x.csv", m / "face.csv", 0.5),
        "has 14 frames, this video 30",
    ),
    "csv of a shorter video": (CSV, lambda t, m: first_lines(t / "x.csv", m / "face.csv", 16), "has 15 frames"),
    "missing audio": (AUDIO, lambda t, m: t / "none.wav", "does not exist"),
    "audio is a folder": (AUDIO, lambda t, m: folder(t / "x.wav"), "folder"),
    "empty audio": (AUDIO, lambda t, m: text(t / "x.wav", ""), "empty"),
    "text named wav": (AUDIO, lambda t, m: text(t / "x.wav"), "x.wav"),
    "audio of no samples": (AUDIO, lambda t, m: write_speech(t / "x.wav", 0), "x.wav"),
    "silent audio": (AUDIO, lambda t, m: write_speech(t / "x.wav", 1, amplitude=0), "silent"),
    "video without sound as audio": (AUDIO, lambda t, m: m / "face.mp4", "no audio track"),
    "missing weights": (WEIGHTS, lambda t, m: t / "none.pth", "drive.google.com"),
    "weights are a folder": (WEIGHTS, lambda t, m: folder(t / "x.pth"), "folder"),
    "text named pth": (WEIGHTS, lambda t, m: text(t / "x.pth"), "x.pth"),
    "truncated weights": (WEIGHTS, lambda t, m: truncated(t / "x.pth", m / "mel64.pth"), "x.pth"),
    "SyncNet as generator": (WEIGHTS, lambda t, m: m / "syncnet.pth", "SyncNet"),
    "result folder is a file": (RESULT, lambda t, m: text(t / "x"), "file"),
    "result folder below a file": (RESULT, lambda t, m: text(t / "x") / "y", "file"),
    "unwritable result folder": (RESULT, lambda t, m: Path("/proc/results"), "/proc/results"),
    "deepspeech graph missing": ("--deepspeech_model_path", lambda t, m: t / "none.pb", "none.pb"),
    "mouth size of other weights": ("--mouth_region_size", lambda t, m: 128, "64"),
    "no such face": ("--face", lambda t, m: 7, "--face"),
    "reference frame beyond the end": ("--reference_frames", lambda t, m: "5,1000", "0 to 29"),
    "no such device": ("--device", lambda t, m: "gpu", "--device"),
    "no such GPU": ("--device", lambda t, m: "cuda:99", "--device"),
    "landmark folder is a file": ("--landmark_dir", lambda t, m: text(t / "x"), "--landmark_dir"),
    "seed below 0": ("--seed", lambda t, m: -1, "--seed"),
    "encoder of sound": ("--video_codec", lambda t, m: "aac", "video codec aac"),
    "decoder": ("--video_codec", lambda t, m: "libdav1d", "video codec libdav1d"),
    "no such encoder": ("--video_codec", lambda t, m: "libx999", "libx999"),
    "no such blend": ("--blend", lambda t, m: "soft", "--blend"),
    "no such rate": ("--fps", lambda t, m: "fast", "--fps"),
}


def test_a_mouth_size_that_cannot_be_halved_is_refused(media):
    with pytest.raises(UserError, match=r"^--mouth_region_size: 48 is not a multiple of 32"):
        load_dubber(LoadSettings(media / "published.pth", mouth_region_size=48))


def test_a_source_is_not_overwritten(media, tmp_path):
    own = tmp_path / "own.mp4"
    own.write_bytes((media / "face.mp4").read_bytes())
    for source, audio in ((own, media / "speech.wav"), (media / "face.mp4", own)):
        with pytest.raises(UserError, match=r"own\.mp4 is to be read and to be written"):
            Dubber(None, None).dub(DubbingJob(source, audio, own))
    assert own.read_bytes() == (media / "face.mp4").read_bytes()


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gives_one_line_and_status_2(case, media, landmark_csv, monkeypatch, capfd, tmp_path):
    FACE["face"] = media / "face.mp4"
    option, make, words = BAD[case]
    results = tmp_path / "results"
    arguments = {
        SOURCE: media / "face.mp4",
        AUDIO: media / "speech.wav",
        WEIGHTS: media / ("published.pth" if option == "--deepspeech_model_path" else "mel64.pth"),
        RESULT: results,
        "--landmark_dir": tmp_path / "landmarks",
    }
    if option in (CSV, "--face", "--reference_frames"):
        arguments[CSV] = landmark_csv
    arguments[option] = make(tmp_path, media)
    status, lines = run_in_process(monkeypatch, capfd, [word for pair in arguments.items() for word in pair])
    assert status == 2, lines
    errors = [line for line in lines if "error:" in line]
    assert len(errors) == 1, lines
    assert words in errors[0]
    assert errors[0].startswith("inference.py: error: ")
    assert not any("Traceback" in line for line in lines)
    assert not list(tmp_path.rglob("*.mp4*partial*")) and not (results.is_dir() and list(results.iterdir()))


def test_a_failed_run_leaves_the_earlier_result_alone(media, landmark_csv, monkeypatch, capfd, tmp_path):
    earlier = tmp_path / "face_facial_dubbing_add_audio.mp4"
    earlier.write_bytes(b"precious")
    arguments = [SOURCE, media / "face.mp4", AUDIO, media / "speech.wav", WEIGHTS, media / "mel64.pth"]
    arguments += [RESULT, tmp_path, CSV, landmark_csv, "--reference_frames", "1000"]
    status, _ = run_in_process(monkeypatch, capfd, arguments)
    assert status == 2
    assert earlier.read_bytes() == b"precious"


def test_an_error_of_the_generator_stops_everything_and_leaves_nothing(media, landmark_csv, tmp_path):
    class Broken(Echo):
        def __call__(self, crops, audio, first_row=0):
            raise ZeroDivisionError("bug")

    job = DubbingJob(media / "face.mp4", media / "speech.wav", tmp_path / "out.mp4", landmark_csv)
    with pytest.raises(ZeroDivisionError):
        Dubber(Broken(), read_speech).dub(job)
    assert not list(tmp_path.iterdir())


HELP = """
import sys
import inference
try:
    inference.InferenceParser().parse_args(["--help"])
except SystemExit:
    print([name for name in ("torch", "tensorflow", "librosa", "numba", "dlib") if name in sys.modules])
"""


def test_help_loads_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", HELP], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip().endswith("[]")


def test_detached_values_are_joined():
    options = InferenceParser().parse_args(
        ["--source_video_path=", "my", "face.mp4", "--driving_audio_path=a.wav", "--reference_frames=3,4"]
    )
    assert options.source_video_path == Path("my face.mp4")
    assert options.driving_audio_path == Path("a.wav")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_one_bar_per_stage_is_shown(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_bars() as show:
        for done in range(1, 6):
            show("landmarks", done, 0)
        for done in (2, 4):
            show("dub", done, 4)
        show("dub", 1, 3)  # the next job's
    shown = sys.stderr.getvalue()
    assert "landmarks: 5frame" in shown and "4/4" in shown and "1/3" in shown
    assert shown.count("\n") == 3


def test_lips_close_in_pauses_unless_they_are_to_be_kept(media, landmark_csv, tmp_path, monkeypatch):
    speech = read_speech(media / "speech.wav")
    waveform = load_waveform(media / "speech.wav", "--x")
    loud, pause = waveform.samples[: waveform.rate // 4], np.zeros(waveform.rate // 2, np.float32)
    write_wav(tmp_path / "paused.wav", Waveform(np.concatenate([loud, pause, loud]), waveform.rate))
    seen = []
    real = FaceBlender.blend

    def blend(self, made, weight, closed):
        seen.append(closed)
        return real(self, made, weight, closed)

    monkeypatch.setattr(FaceBlender, "blend", blend)
    dubber = Dubber(Echo(), lambda path: replace(speech, path=path))
    job = DubbingJob(media / "face.mp4", tmp_path / "paused.wav", tmp_path / "out.mp4", landmark_csv)
    dubber.dub(job)
    assert seen[3] == seen[22] == 0  # 0.12 s and 0.88 s
    assert max(seen) == seen[12] == 1
    seen.clear()
    dubber.dub(job, DubbingOptions(silence="keep"))
    assert len(seen) == 25 and not any(seen)
