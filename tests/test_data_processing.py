"""From videos to the training json, by the command line."""

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import Executor, Future
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.deepspeech_graph import write_frozen_graph
from helpers.sample_media import BT601, write_face_video, write_speech

import data_processing
from dataset.manifest import read_manifest
from utils.data_processing import steps as data_steps
from utils.errors import UserError
from utils.media.images import read_image
from utils.media.video_reader import VideoReader
from utils.media.video_writer import EncoderSettings, VideoWriter

ROOT = Path(__file__).parent.parent
DATA = Path("asserts/training_data")
CLIPS = 5
FRAMES = 9 * CLIPS
"""A whole number of clips: the published code loses the last one."""
SIZE = 320
STEPS_OF_ALL = (
    "--resample_video",
    "--extract_audio",
    "--extract_audio_feature",
    "--detect_landmark",
    "--crop_face",
    "--generate_training_json",
)


class InlineExecutor(Executor):
    """Works at once in this process."""

    def submit(self, function, /, *args):
        future = Future()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future


def run_inline(monkeypatch, folder: Path, command: str) -> int:
    """Run data_processing.py in this process, without its pool; return the exit status or raise its UserError."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["data_processing.py", *shlex.split(command)])
    monkeypatch.setattr(data_processing, "open_executor", lambda options: contextlib.nullcontext(InlineExecutor()))
    return data_processing.main()


def run_script(folder: Path, command: str) -> subprocess.CompletedProcess:
    """Run data_processing.py as a user does."""
    return subprocess.run(
        [sys.executable, ROOT / "data_processing.py", *shlex.split(command)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def last_changes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """Videos of every kind that people have: good ones, and each with something wrong."""
    folder = tmp_path_factory.mktemp("media") / "raw"
    folder.mkdir()
    speech = write_speech(folder.parent / "speech.wav", FRAMES / 25)
    write_face_video(folder / "talk25.mp4", FRAMES, size=SIZE, audio=speech)
    write_face_video(folder / "talk 30.mp4", FRAMES * 30 // 25, rate=30, size=SIZE, audio=speech)
    write_face_video(folder / "silent.mp4", 18, size=SIZE)
    write_face_video(folder / "short.mp4", 8, size=SIZE, audio=speech)
    write_face_video(folder / "nobody.mp4", 9, size=SIZE, blank=tuple(range(9)), audio=speech)
    (folder / "text.mp4").write_text("this is no video")
    return folder


@pytest.fixture(scope="module")
def prepared(raw, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """Folder in which --all has run on `raw`, and what it said."""
    folder = tmp_path_factory.mktemp("prepared")
    return folder, run_script(folder, f"--all --source_video_dir {raw} --workers 2")


@pytest.fixture
def talk(raw, prepared, tmp_path) -> Path:
    """A folder with one 25 fps video, its landmarks and its sound in the default places."""
    for kind, name in (("", "talk25.mp4"), ("_landmark_openface", "talk25.csv"), ("_audio", "talk25.wav")):
        target = tmp_path / DATA / f"split_video_25fps{kind}" / name
        target.parent.mkdir(parents=True)
        shutil.copy(prepared[0] / DATA / f"split_video_25fps{kind}" / name, target)
    return tmp_path


def test_all_prepares_what_can_be_used_and_says_why_not_the_rest(prepared):
    folder, run = prepared
    assert run.returncode == 1, run.stderr
    videos = read_manifest(folder / DATA / "training_json.json")
    assert [(video.name, len(video.clips)) for video in videos] == [("talk 30", CLIPS), ("talk25", CLIPS)]
    for name, cause in (
        ("silent", "no audio track"),
        ("short", "too short: 8 frames, a clip has 9"),
        ("nobody", "no face was found"),
        ("text", "is no video"),
    ):
        assert any(cause in line for line in run.stderr.splitlines() if line.startswith(f"skipped {name} ")), name
    assert f"2 videos, {2 * CLIPS} clips of 9 frames" in run.stderr
    assert "Traceback" not in run.stderr
    assert not list(folder.rglob(".partial"))


def test_a_second_run_does_nothing_again(raw, prepared):
    folder, first = prepared
    before = last_changes(folder / DATA)
    run = run_script(folder, f"--all --source_video_dir {raw} --workers 2")
    json_path = "training_json.json"
    after = last_changes(folder / DATA)
    assert {k: v for k, v in after.items() if k != json_path} == {k: v for k, v in before.items() if k != json_path}
    assert [line for line in run.stderr.splitlines() if line.startswith("skipped")] == [
        line for line in first.stderr.splitlines() if line.startswith("skipped")
    ]


def test_crops_and_features_of_a_clip_belong_together(prepared, monkeypatch):
    monkeypatch.chdir(prepared[0])
    for video in read_manifest(DATA / "training_json.json"):
        for number, clip in enumerate(video.clips):
            assert [Path(path).name for path in clip.frame_paths] == [f"{9 * number + i:06d}.jpg" for i in range(9)]
            assert video.clip_features(clip).shape == (36, 80)
            shapes = {read_image(Path(path)).shape for path in clip.frame_paths}
            assert len(shapes) == 1  # one radius a clip
            height, width, _ = shapes.pop()
            radius = width * 2 // 5
            assert (height, width) == (3 * radius + radius // 4, 2 * radius + 2 * (radius // 4)) and radius % 4 == 0
            assert clip.first_row == 36 * number


def test_steps_one_by_one_give_the_json_of_all(raw, prepared, tmp_path, monkeypatch):
    for step in STEPS_OF_ALL:
        run_inline(monkeypatch, tmp_path, f"{step} --source_video_dir {raw}" if step == STEPS_OF_ALL[0] else step)
    assert (tmp_path / DATA / "training_json.json").read_bytes() == (
        prepared[0] / DATA / "training_json.json"
    ).read_bytes()
    # The files too. Some more are there, of videos that --all had given up; features depend, in their last bits, on
    # how many threads multiply matrices, and those of this process are not the pool's.
    mine, theirs = snapshot(tmp_path / DATA), snapshot(prepared[0] / DATA)
    assert theirs.keys() <= mine.keys()
    assert [name for name in theirs if mine[name] != theirs[name] and not name.endswith("_mel.npy")] == []


def test_published_commands_with_deepspeech(talk, monkeypatch):
    write_frozen_graph(talk / "asserts" / "output_graph.pb")
    for step in ("extract_video_frame", "extract_audio", "extract_deep_speech", "crop_face", "generate_training_json"):
        assert run_inline(monkeypatch, talk, f"--{step}") == 0, step
    assert len(list((talk / DATA / "split_video_25fps_frame" / "talk25").glob("*.jpg"))) == FRAMES
    features = np.loadtxt(talk / DATA / "split_video_25fps_deepspeech" / "talk25_deepspeech.txt")
    assert features.shape[1] == 29 and len(features) >= FRAMES
    entry = json.loads((talk / DATA / "training_json.json").read_text())["talk25"]
    assert entry["video_clip_num"] == len(entry["clip_data_list"]) == CLIPS
    clip = entry["clip_data_list"][2]
    assert set(clip) == {"frame_name_list", "frame_path_list", "deep_speech_list"}
    assert clip["frame_name_list"][0] == "talk25/000002/000018.jpg"
    assert clip["frame_path_list"][0] == f"{DATA.as_posix()}/split_video_25fps_crop_face/talk25/000002/000018.jpg"
    np.testing.assert_allclose(clip["deep_speech_list"], features[18:27], atol=1e-6)
    assert read_manifest(talk / DATA / "training_json.json")[0].kind.name == "deepspeech"


def test_whisper_features_are_asked_for_by_name(talk, monkeypatch):
    with pytest.raises(UserError, match="--whisper_model: no/such/model"):
        run_inline(monkeypatch, talk, "--extract_audio_feature --audio_feature whisper --whisper_model no/such/model")


def test_crops_of_frames_and_of_the_video_are_the_same_picture(talk, monkeypatch):
    run_inline(monkeypatch, talk, "--crop_face --crop_face_dir of_video")
    run_inline(monkeypatch, talk, "--extract_video_frame")
    run_inline(monkeypatch, talk, "--crop_face --crop_face_dir of_frames")
    paths = sorted(path.relative_to(talk / "of_video") for path in (talk / "of_video").rglob("*.jpg"))
    assert len(paths) == FRAMES
    assert paths == sorted(path.relative_to(talk / "of_frames") for path in (talk / "of_frames").rglob("*.jpg"))
    for path in paths[::10]:
        assert cv2.PSNR(read_image(talk / "of_video" / path), read_image(talk / "of_frames" / path)) > 38


def test_crops_without_the_video(talk, monkeypatch):
    run_inline(monkeypatch, talk, "--extract_video_frame")
    shutil.rmtree(talk / DATA / "split_video_25fps")
    assert run_inline(monkeypatch, talk, "--crop_face") == 0
    assert len(list((talk / DATA / "split_video_25fps_crop_face").rglob("*.jpg"))) == FRAMES


def test_a_changed_source_is_prepared_again(talk, monkeypatch):
    steps = "--extract_audio --extract_audio_feature --detect_landmark --crop_face --generate_training_json"
    landmarks = talk / DATA / "split_video_25fps_landmark_openface" / "talk25.csv"
    video = talk / DATA / "split_video_25fps" / "talk25.mp4"
    by_openface = landmarks.read_text()
    landmarks.unlink()
    (talk / DATA / "split_video_25fps_audio" / "talk25.wav").unlink()
    run_inline(monkeypatch, talk, steps)
    write_face_video(video, 18, size=SIZE, audio=write_speech(talk / "speech.wav", 0.6))
    assert run_inline(monkeypatch, talk, steps) == 0
    assert len(read_manifest(talk / DATA / "training_json.json")[0].clips) == 1  # the sound ends in the second
    # A csv that was not made here is never overwritten; crops that do not belong to it do not stay.
    (landmarks.parent / ".records" / "talk25.csv.json").unlink()
    landmarks.write_text(by_openface)
    assert run_inline(monkeypatch, talk, steps) == 1
    assert landmarks.read_text() == by_openface
    assert not (talk / DATA / "split_video_25fps_crop_face" / "talk25").exists()


def test_another_clip_length_crops_again(talk, monkeypatch):
    run_inline(monkeypatch, talk, "--crop_face")
    run_inline(monkeypatch, talk, "--crop_face --clip_length 15")
    folders = sorted(path.name for path in (talk / DATA / "split_video_25fps_crop_face" / "talk25").iterdir())
    assert folders == ["000000", "000001", "000002"]


def test_clips_after_the_end_of_the_sound_are_left_out_and_counted(talk, monkeypatch, caplog):
    caplog.set_level("INFO")
    write_speech(talk / DATA / "split_video_25fps_audio" / "talk25.wav", 1.0)  # 25 frames of 45
    run_inline(monkeypatch, talk, "--extract_audio_feature --crop_face --generate_training_json")
    assert len(read_manifest(talk / DATA / "training_json.json")[0].clips) == 2
    assert "3 clips not used: the audio ends before the clip does" in caplog.text


def test_removed_clips_stay_out_of_the_json(talk, monkeypatch):
    run_inline(monkeypatch, talk, "--extract_audio_feature --crop_face")
    shutil.rmtree(talk / DATA / "split_video_25fps_crop_face" / "talk25" / "000001")
    run_inline(monkeypatch, talk, "--generate_training_json")
    clips = read_manifest(talk / DATA / "training_json.json")[0].clips
    assert [clip.first_row // 36 for clip in clips] == [0, 2, 3, 4]


def test_crops_made_elsewhere_get_into_the_json(talk, monkeypatch):
    run_inline(monkeypatch, talk, "--extract_audio_feature --crop_face")
    crops = talk / DATA / "split_video_25fps_crop_face"
    shutil.rmtree(crops / ".records")
    (crops / "talk25" / "000003" / "000030.jpg").unlink()
    run_inline(monkeypatch, talk, "--generate_training_json")
    clips = read_manifest(talk / DATA / "training_json.json")[0].clips
    assert [clip.first_row // 36 for clip in clips] == [0, 1, 2, 4]


def test_videos_that_do_not_fit_are_skipped_with_their_cause(talk, monkeypatch, caplog):
    videos, landmarks = talk / DATA / "split_video_25fps", talk / DATA / "split_video_25fps_landmark_openface"
    csv = (landmarks / "talk25.csv").read_text().splitlines(keepends=True)
    for name in ("longer", "rate30", "nocsv", "broken", "frames"):
        shutil.copy(videos / "talk25.mp4", videos / f"{name}.mp4")
        (landmarks / f"{name}.csv").write_text("".join(csv))
    (landmarks / "longer.csv").write_text("".join(csv[:-12]))
    write_face_video(videos / "rate30.mp4", 30, rate=30, size=SIZE)
    (landmarks / "nocsv.csv").unlink()
    (landmarks / "broken.csv").write_text("frame, confidence\n1, 0.9\n")
    (talk / DATA / "split_video_25fps_frame" / "frames").mkdir(parents=True)
    assert run_inline(monkeypatch, talk, "--crop_face") == 1
    assert (talk / DATA / "split_video_25fps_crop_face" / "talk25" / "000004").is_dir()
    for name, cause in (
        ("longer", "--openface_landmark_dir"),
        ("rate30", "30 frames per second, 25 are needed; run --resample_video"),
        ("nocsv", "run --detect_landmark"),
        ("broken", "--openface_landmark_dir"),
        ("frames", "holds no frames"),
    ):
        lines = [record.message for record in caplog.records if record.message.startswith(f"skipped {name} ")]
        assert len(lines) == 1 and cause in lines[0], (name, lines)
        assert not (talk / DATA / "split_video_25fps_crop_face" / name).exists()


def test_what_is_no_file_is_skipped_with_a_way_out(talk, monkeypatch, caplog):
    raw = talk / "raw"
    raw.mkdir()
    shutil.copy(talk / DATA / "split_video_25fps" / "talk25.mp4", raw / "good.mp4")
    (raw / "folder.mp4").mkdir()
    (raw / "empty.mp4").touch()
    (raw / "loop.mp4").symlink_to("loop.mp4")
    (raw / "lost.mp4").symlink_to("nowhere.mp4")
    os.mkfifo(raw / "pipe.mp4")
    with caplog.at_level("INFO"):
        status = run_inline(monkeypatch, talk, "--resample_video --source_video_dir raw --resampled_video_dir out")
    assert status == 1
    assert [path.name for path in (talk / "out").glob("*.mp4")] == ["good.mp4"]
    assert "Traceback" not in caplog.text and "5 videos skipped" in caplog.text
    for name, cause in (
        ("folder", "is a folder, a file is needed; name a file in it"),
        ("empty", "is empty (0 bytes); copy or make it again"),
        ("loop", "is a link that leads in a circle; name the file itself"),
        ("lost", "does not exist; check the path"),
        ("pipe", "is a pipe or a device, a file is needed; save it to a file first"),
    ):
        assert f"skipped {name} (resample_video): raw/{name}.mp4 {cause}" in caplog.text


def test_an_unexpected_error_keeps_its_traceback_and_the_others_go_on(talk, monkeypatch, caplog):
    shutil.copy(talk / DATA / "split_video_25fps" / "talk25.mp4", talk / DATA / "split_video_25fps" / "other.mp4")
    load = data_steps.load_waveform

    def sometimes(path, option):
        if path.stem == "other":
            raise ZeroDivisionError("a bug")
        return load(path, option)

    monkeypatch.setattr(data_steps, "load_waveform", sometimes)
    assert run_inline(monkeypatch, talk, "--extract_audio --audio_dir wavs") == 1
    assert "skipped other (extract_audio): ZeroDivisionError: a bug" in caplog.text and "Traceback" in caplog.text
    assert (talk / "wavs" / "talk25.wav").exists()


def test_a_full_disk_ends_the_run(talk, monkeypatch):
    def full(path, waveform):
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise UserError(f"{path} cannot be written") from error

    monkeypatch.setattr(data_steps, "write_wav", full)
    with pytest.raises(UserError, match="run again"):
        run_inline(monkeypatch, talk, "--extract_audio --audio_dir wavs")
    assert not list((talk / "wavs").rglob("*.wav"))


def test_annotated_parts_and_scenes(raw, tmp_path, monkeypatch, caplog):
    long = tmp_path / DATA / "raw_video" / "Radio1.mp4"
    long.parent.mkdir(parents=True)
    colours = (40, 200, 90)
    with VideoWriter(
        long, 320, 240, Fraction(30), BT601, encoder=EncoderSettings(crf=10), audio_path=raw.parent / "speech.wav"
    ) as writer:
        for index in range(240):  # a scene lasts 2.4 s
            yuv = np.full((360, 320), 128, np.uint8)
            yuv[:240] = np.random.default_rng(index // 72).integers(20, 60, (240, 320)) + colours[index // 72 % 3]
            writer.write(yuv)
    shutil.copy(raw / "silent.mp4", long.parent / "unknown.mp4")
    (long.parent / "RD_annotion_time.txt").write_text("Radio1.mp4 00:01-00:06 00:06-00:07\nRadio2.mp4 00:00-00:05\n")
    assert run_inline(monkeypatch, tmp_path, "--split_video --resample_video --split_scene") == 1
    assert "skipped Radio2 (split_video): annotated, but not in --source_video_dir" in caplog.text
    assert "skipped unknown (split_video): not annotated" in caplog.text

    def frames(folder: str) -> dict[str, tuple[Fraction, int]]:
        readers = {path.stem: VideoReader(path) for path in sorted((tmp_path / DATA / folder).glob("*.mp4"))}
        return {name: (reader.info.rate, len(reader.times)) for name, reader in readers.items()}

    assert frames("split_video") == {"Radio1_0": (30, 150), "Radio1_1": (30, 30)}
    assert frames("split_video_25fps") == {"Radio1_0": (25, 125), "Radio1_1": (25, 25)}
    assert frames("split_scene_25fps") == {
        "Radio1_0_scene0": (25, 35),
        "Radio1_0_scene1": (25, 60),
        "Radio1_0_scene2": (25, 30),
        "Radio1_1": (25, 25),
    }
    before = last_changes(tmp_path / DATA)
    run_inline(monkeypatch, tmp_path, "--split_video --resample_video --split_scene")
    assert last_changes(tmp_path / DATA) == before


def test_a_video_that_lies_where_it_belongs_stays(talk, monkeypatch):
    before = last_changes(talk / DATA)
    source = f"--resample_video --source_video_dir {DATA}/split_video_25fps"
    assert run_inline(monkeypatch, talk, source) == 0
    assert last_changes(talk / DATA) == before
    write_face_video(talk / DATA / "split_video_25fps" / "rate30.mp4", 30, rate=30, size=SIZE)
    assert run_inline(monkeypatch, talk, source) == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("--extract_audio", "--source_video_dir: no videos in .* nor "),
        ("--extract_audio --source_video_dir none", "--source_video_dir: none does not exist"),
        ("--all --source_video_dir empty", "--source_video_dir: empty holds no videos"),
        ("--extract_deep_speech --source_video_dir videos", "--deep_speech_model: .*output_graph.pb does not exist"),
        ("--extract_audio --source_video_dir videos --audio_dir file", "--audio_dir: file is, or lies below, a file"),
        ("--split_video --source_video_dir videos", "--annotation_path: videos holds no"),
        ("--generate_training_json", "--crop_face_dir: .* does not exist; run --crop_face"),
        ("--generate_training_json --crop_face_dir empty --json_path empty", "--json_path: empty is a folder"),
    ],
)
def test_what_nothing_works_without_is_one_line(tmp_path, monkeypatch, command, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_text("x")
    with pytest.raises(UserError, match=message):
        run_inline(monkeypatch, tmp_path, command)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("", "nothing to do"),
        ("--all --workers 0", "0 is not a whole number from 1"),
        ("--all --jpeg_quality 80", "between 95 and 100"),
        ("--extract_audio --source_video_dir missing", "--source_video_dir: missing does not exist"),
    ],
)
def test_mistakes_end_with_status_2(tmp_path, command, words):
    run = run_script(tmp_path, command)
    assert run.returncode == 2 and words in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_lost_scene_cuts_are_found_again(tmp_path, monkeypatch):
    """Clips do not straddle a cut, whether the cuts come from the detection, from the video or from an old record."""
    video = tmp_path / DATA / "split_video_25fps" / "talk.mp4"
    video.parent.mkdir(parents=True)
    two_faces(video)
    landmarks = tmp_path / DATA / "split_video_25fps_landmark_openface"
    shots, record = landmarks / "talk_shots.json", landmarks / ".records" / "talk.csv.json"
    crops = tmp_path / DATA / "split_video_25fps_crop_face"

    def clips() -> list[str]:
        shutil.rmtree(crops, ignore_errors=True)
        assert run_inline(monkeypatch, tmp_path, "--detect_landmark --crop_face") == 0
        return sorted(path.name for path in (crops / "talk").iterdir())

    assert clips() == ["000000", "000002"]  # the cut lies in the second of three clips
    content = json.loads(shots.read_bytes())
    assert content["shots"] == [0, 13]
    shots.unlink()
    assert clips() == ["000000", "000002"]
    assert json.loads(shots.read_bytes()) == content
    shots.unlink()
    facts = json.loads(record.read_bytes())
    facts["result"]["shots"] = [0, 4]  # as earlier versions kept them
    record.write_text(json.dumps(facts))
    assert clips() == ["000001", "000002"]
    shots.write_text(json.dumps({"video": "another one", "shots": [0, 22]}))
    assert clips() == ["000001", "000002"], "cuts of another video do not count"


def two_faces(path: Path) -> None:
    """27 frames of a face; with frame 13 it lies elsewhere on another ground."""
    parts = [write_face_video(path.with_name(f".{number}.mp4"), 14, size=SIZE) for number in range(2)]
    first, second = (list(VideoReader(part).frames()) for part in parts)
    info = VideoReader(parts[0]).info
    with VideoWriter(path, info.width, info.height, Fraction(25), info.colour) as writer:
        for number in range(27):
            frame = (first if number < 13 else second)[number % 13].yuv.copy()
            if number >= 13:
                frame[:SIZE] = np.clip(frame[:SIZE, ::-1].astype(int) * 0.6 + 90, 16, 235)
            writer.write(frame)
