"""Odd inputs for the real scripts, without end: python tests/fuzz.py --count 1000 --seed 7.

Each input is one script with one damaged file, oddly named file or odd option value, run in a forked child under a
limit of time and memory. It is right if it ends with status 0, or with one line that names the fault and the way out
and status 2; if nothing is killed, nothing hangs, no file outside its results changes and nothing half-written stays.
Input N of a seed is always the same: what fails is printed with the command that repeats it.
"""

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import numpy as np  # noqa: E402
from helpers.forked import Ended, Fault, preload, run_forked  # noqa: E402
from helpers.mutations import ODD_NUMBERS, ODD_TOKENS, damage_file, put_something_else  # noqa: E402

SECONDS = 90 * float(os.environ.get("DINET_TEST_SLACK", "1"))
"""An input may take this long; DINET_TEST_SLACK says how much slower a busy machine is."""
MORE_BYTES = 3 << 30
PEAK_BYTES = 5 << 30
RESULTS = "out"
LONGEST_NAME = 255  # bytes, of most file systems
ODD_NAMES = (
    b"x" * 251, b"%d", b"a%03d", b"-x", b"a:b", b"a\nb", b"a b", b"\xff\xfe\xfd", "ä漢字🎬".encode(), b"file:a",
    b"*?[a]", b"'\"$(touch pwned)", b".hidden", b"a" * 120 + "é".encode() * 60, b"concat:a|b", b"pipe:0", b"~",
)  # fmt: skip

TRAINING = ("--train_data", "set/training_json.json", "--result_path", RESULTS, "--mouth_region_size", "32",
            "--batch_size", "2", "--augment_num", "2", "--max_steps", "1", "--num_workers", "0")  # fmt: skip
DINET = ("--D_num_blocks", "3", "--D_block_expansion", "8", "--feature_channel", "8")
BENCHMARKED = ("--source_video_path", "face.mp4", "--driving_audio_path", "speech.wav", "--seconds", "0.2",
               "--device", "cpu", "--json_path", f"{RESULTS}/figures.json")  # fmt: skip
RESUMED = "resumed"
TEMPLATES: dict[str, list[tuple[str, ...]]] = {
    "inference": [
        ("--source_video_path", source, "--driving_audio_path", audio, "--pretrained_clip_DINet_path", "narrow.pth",
         "--res_video_dir", RESULTS, "--landmark_dir", "cache", *more)
        for source, audio, more in (
            ("face.mp4", "speech.wav", ("--source_openface_landmark_path", "face.csv", "--batch_size", "2")),
            ("face.mkv", "speech.wav", ("--source_openface_landmark_path", "face.csv", "--seed", "3", "--crf", "30")),
            ("face.mp4", "speech.mp3", ("--source_openface_landmark_path", "face.csv", "--fps", "25")),
            ("face.mp4", "face.mp4", ("--source_openface_landmark_path", "face.csv", "--reference_frames", "0,1,2")),
            ("face.jpg", "speech.wav", ("--preset", "ultrafast", "--video_codec", "libx264", "--face", "0")),
            ("face.mp4", "speech.wav", ("--save_face_video", "--max_seconds", "60", "--device", "cpu")),
        )
    ] + [
        ("--jobs", jobs, "--pretrained_clip_DINet_path", "narrow.pth", "--res_video_dir", RESULTS,
         "--landmark_dir", "cache", "--mouth_region_size", "64")
        for jobs in ("jobs.csv", "jobs.jsonl")
    ],
    "export_weights": [
        ("--checkpoint", checkpoint, "--result_path", f"{RESULTS}/small.{ending}")
        for checkpoint, ending in (("narrow.pth", "pth"), ("full.pth", "pth"), ("full.pth", "safetensors"))
    ],
    "train_syncnet": [TRAINING],
    "train_audio_encoder": [(*TRAINING, "--openface_landmark_dir", "landmarks")],
    "train_mouth_reader": [
        (*TRAINING, "--openface_landmark_dir", "landmarks"),
        (*(RESUMED if word == RESULTS else word for word in TRAINING), "--openface_landmark_dir", "landmarks",
         "--max_steps", "3", "--resume"),
    ],
    "train_DINet_frame": [
        (*TRAINING, *DINET, "--perceptual_weights", "vgg.pth"),
        (*TRAINING, *DINET, "--perceptual_weights", "vgg.pth", "--coarse2fine", "--coarse_model_path", "full.pth"),
    ],
    "train_DINet_clip": [
        (*TRAINING, *DINET, "--perceptual_weights", "vgg.pth", "--pretrained_frame_DINet_path", "full.pth",
         "--pretrained_syncnet_path", "sync.pth"),
    ],
    "benchmark": [
        ("stream", *BENCHMARKED, "--pretrained_clip_DINet_path", "narrow.pth"),
        ("inference", *BENCHMARKED, "--checkpoint", "narrow.pth", "--mouth_region_size", "64", "--rounds", "1",
         "--without_published"),
    ],
    "app": [
        ("--port", "0", "--host", "127.0.0.1", "--page_dir", f"{RESULTS}/page", "--pretrained_clip_DINet_path",
         "narrow.pth", "--max_upload_mb", "5", "--max_waiting", "3", "--keep_minutes", "5", "--crf", "30"),
    ],
    "evaluate": [
        ("--generated", "face.mkv", "--reference", "face.mp4", "--result_dir", RESULTS, "--landmark_dir", "cache",
         "--workers", "1"),
    ],
    "data_processing": [
        ("--all", "--source_video_dir", "raw", "--workers", "1",
         "--json_path", f"{RESULTS}/json/set.json"),
    ],
}  # fmt: skip
FAULTS = {"app": Fault(signal.SIGTERM, signal_text="the page: ")}
"""The page serves until it is asked to end."""
SHARES = {  # of the inputs; the scripts that start processes take longest
    "inference": 44, "export_weights": 12, "train_DINet_frame": 10, "train_DINet_clip": 6, "train_syncnet": 8,
    "train_audio_encoder": 3, "train_mouth_reader": 8, "evaluate": 3, "data_processing": 3, "benchmark": 2, "app": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Input:
    """A script's arguments, and what is odd about them."""

    script: str
    arguments: list
    odd: str
    elsewhere: bool = False
    """The odd option says where results go: new files outside the usual folders are results too."""


def write_samples(folder: Path) -> None:
    """Small files of every kind that the scripts read."""
    import torch
    from helpers.sample_media import write_face_video, write_speech
    from helpers.training_data import write_perceptual_weights, write_training_set
    from helpers.videos import convert_sound

    from models.dinet import DINet
    from models.lip_regressor import LipShapeRegressor
    from models.syncnet import SyncNet
    from utils.checkpoints import LIP_REGRESSOR, Metadata, write_checkpoint
    from utils.face.openface_csv import write_openface_csv
    from utils.face.tracker import FaceTracker
    from utils.media.images import write_png
    from utils.media.video_reader import VideoReader
    from utils.media.yuv import rgb_patch
    from utils.training.optimizer import make_optimizer

    torch.manual_seed(0)
    write_speech(folder / "speech.wav", 0.2)
    convert_sound(folder / "speech.wav", folder / "speech.mp3", "libmp3lame")
    for name in ("face.mp4", "face.mkv"):
        write_face_video(folder / "face.mp4", 6, size=192, audio=folder / "speech.wav")
        if name != "face.mp4":
            remux(folder / "face.mp4", folder / name)
    reader = VideoReader(folder / "face.mp4")
    tracker = FaceTracker(25.0)
    for frame in reader.frames():
        tracker.add(frame.luma)
    write_openface_csv(folder / "face.csv", tracker.finish(np.zeros(1, int)), 25.0)
    first = next(reader.frames())
    write_png(folder / "face.jpg", rgb_patch(first.yuv, 0, first.height, 0, first.width, reader.info.colour))
    shutil.copy(folder / "face.mp4", folder / "secret.mp4")
    (folder / "raw").mkdir()
    write_face_video(folder / "raw" / "talk.mp4", 30, size=192, audio=write_speech(folder / "long.wav", 1.2))
    mel, small = (Metadata(size, "mel", 80, 4, 8) for size in (64, 32))
    generator = DINet(3, 15, 80, 8)
    write_checkpoint(folder / "narrow.pth", {"net_g": generator}, {}, 1, mel)
    optimizer = torch.optim.Adam(generator.parameters())
    sum(parameter.sum() for parameter in generator.parameters()).backward()
    optimizer.step()
    write_checkpoint(folder / "full.pth", {"net_g": generator, "net_g_ema": generator}, {"net_g": optimizer}, 2, small)
    write_checkpoint(folder / "sync.pth", {"net": SyncNet(15, 80, 128)}, {}, 1, Metadata(32, "mel", 80, 4))
    write_perceptual_weights(folder / "vgg.pth")
    (folder / RESUMED).mkdir()
    for name, position in (("1_step_1", (1, 1, 1)), ("1", (2, 0, 2))):
        network = LipShapeRegressor()
        optimizer = make_optimizer(network, 1e-4)
        sum(parameter.sum() for parameter in network.parameters()).backward()
        optimizer.step()
        content = {LIP_REGRESSOR: network}, {LIP_REGRESSOR: optimizer}, position[0], Metadata(32)
        extra = {"position": dict(zip(("epoch", "step_in_epoch", "step"), position, strict=True)), "scalers": {},
                 "random_state": torch.get_rng_state()}  # fmt: skip
        write_checkpoint(folder / RESUMED / f"mouth_reader_model_epoch_{name}.pth", *content, extra)
    write_training_set(folder / "set", videos=2, clips=3)
    json_path = folder / "set" / "training_json.json"
    json_path.write_text(json_path.read_text().replace(folder.as_posix() + "/", ""))
    write_landmarks(folder / "landmarks", json_path)
    rows = [("face.mp4", "speech.wav", f"{RESULTS}/a.mp4", "face.csv"), ("face.jpg", "speech.wav", "", "")]
    lines = ["source,audio,result,landmarks", *(",".join(row) for row in rows)]
    (folder / "jobs.csv").write_text("\n".join(lines) + "\n")
    (folder / "jobs.jsonl").write_text('{"source": "face.mp4", "audio": "speech.wav", "landmarks": "face.csv"}\n')


def write_landmarks(folder: Path, json_path: Path) -> None:
    """OpenFace files of the videos of a training set, whose mouths open and close."""
    from dataset.manifest import read_manifest
    from utils.face.landmarks import LandmarkTable
    from utils.face.openface_csv import write_openface_csv

    folder.mkdir()
    for video in read_manifest(json_path):
        count = sum(len(clip.frame_paths) for clip in video.clips)
        points = np.random.default_rng(0).uniform(80, 120, (count, 68, 2)).astype(np.float32)
        points[:, 66, 1] = 110 + 8 * np.sin(np.arange(count) / 3)
        ones = np.ones(count)
        table = LandmarkTable(np.arange(count), np.zeros(count, np.int64), ones, ones > 0, points)
        write_openface_csv(folder / f"{video.name}.csv", table, 25.0)


def remux(source: Path, target: Path) -> None:
    """Put the tracks of a file into another container."""
    import av

    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        tracks = {stream.index: writer.add_stream_from_template(stream) for stream in reader.streams}
        for packet in reader.demux():
            if packet.dts is not None:
                packet.stream = tracks[packet.stream.index]
                writer.mux(packet)


def make_input(folder: Path, random: np.random.Generator, scripts: list[str]) -> Input:
    """Draw a script and spoil one thing in `folder`, a fresh copy of the samples."""
    shares = np.array([SHARES[script] for script in scripts], float)
    script = str(random.choice(scripts, p=shares / shares.sum()))
    templates = TEMPLATES[script]
    arguments: list = list(templates[int(random.integers(len(templates)))])
    files = [index for index, word in enumerate(arguments) if not word.startswith("--") and (folder / word).is_file()]
    kept = (
        [f"{RESUMED}/{path.name}" for path in sorted((folder / RESUMED).glob("*.pth"))]
        if "--resume" in arguments
        else []
    )
    kind = random.random()
    if kind < 0.62 and files:
        chosen = str(random.choice(kept or [arguments[index] for index in files]))
        if chosen.endswith("training_json.json") and random.random() < 0.5:
            parts = sorted(path for path in (folder / "set").rglob("*") if path.is_file())
            chosen = str(parts[int(random.integers(len(parts)))].relative_to(folder))
        damage_file(folder / chosen, random)
        return Input(script, arguments, f"damaged {chosen}", chosen.startswith("jobs."))
    if kind < 0.62:  # a folder of videos
        damage_file(folder / "raw" / "talk.mp4", random)
        return Input(script, arguments, "damaged raw/talk.mp4")
    if kind < 0.72 and files:
        index = int(random.choice(files))
        old = arguments[index]
        ending = Path(old).suffix.encode()
        name = ODD_NAMES[int(random.integers(len(ODD_NAMES)))][: LONGEST_NAME - len(ending)] + ending
        os.rename(os.fsencode(folder / old), os.path.join(os.fsencode(folder), name))  # noqa: PTH104, PTH118
        arguments[index] = b"./" + name if name.startswith(b"-") else name
        return Input(script, arguments, f"{old} is called {name!r}")
    values = [index + 1 for index, word in enumerate(arguments[:-1]) if word.startswith("--")]
    values = [index for index in values if not arguments[index].startswith("--")]
    index = int(random.choice(values))
    option, old = arguments[index - 1], arguments[index]
    is_place = bool(re.search("_dir|result|json_path", option))
    if old.replace(".", "").isdigit():
        value = str(random.choice(ODD_NUMBERS))
    elif random.random() < 0.5 and (folder / old).is_file():
        put_something_else(folder / old, random)
        return Input(script, arguments, f"{option} is something else")
    else:
        impossible = ["\0", "\ud800"] + (["/", ".."] if is_place else [])  # nothing is written outside `folder`
        value = str(random.choice([token for token in ODD_TOKENS if token not in impossible]))
    arguments[index] = value
    return Input(script, arguments, f"{option} {value[:40]!r}", is_place)


def prints(folder: Path) -> dict[str, str]:
    """Content of every file outside the results, and where links lead."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.split("/")[0] in (RESULTS, RESUMED, "cache", "asserts"):
            continue
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"  # noqa: PTH115
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def judge(made: Input, ended: Ended, before: dict[str, str], folder: Path) -> str | None:
    """What is wrong with the way a script ended; None if nothing."""
    lines = [line for line in ended.errors.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(rf"^{made.script}\.py( \w+)?: error: ", line)]
    if ended.out_of_time:
        return f"did not end in {SECONDS} s"
    if ended.status < 0:
        return f"was killed by signal {-ended.status}"
    if "Traceback" in ended.errors or "this is a bug" in ended.errors:
        return "ended in a traceback"
    if "not enough memory" in ended.errors or ended.peak_bytes > PEAK_BYTES:
        return f"took more memory than it may ({ended.peak_bytes >> 20} MiB)"
    if ended.status not in (0, 1, 2):
        return f"ended with status {ended.status}"
    if ended.status == 2 and len(errors) != 1:
        return f"printed {len(errors)} lines of error"
    if ended.status == 2 and not re.search(
        r";|\(see .* --help\)|: .*(give|use|name|choose|leave|make|run) ", errors[0]
    ):
        return "named no way out"
    if ended.status == 1 and not re.search(r"failed|skipped", ended.errors):
        return "ended with status 1 without a word"
    if ended.left_running:
        return f"left a process running: {ended.left_running[0][:100]}"
    after = prints(folder)
    if made.elsewhere:
        after = {name: content for name, content in after.items() if name in before}
    if before != after:
        changed = [name for name in {*before, *after} if before.get(name) != after.get(name)]
        return f"changed files outside its results: {changed[:3]}"
    if left := [path.name for path in folder.rglob("*") if path.name.endswith(".partial") and path.is_file()]:
        return f"left {left[0]}"
    return None


def run_script(made: Input, folder: Path) -> Ended:
    """Run a script under the limits; the page is asked to end once it serves."""
    fault = FAULTS.get(made.script, Fault())
    ended = run_forked(made.script, made.arguments, folder, seconds=SECONDS, more_bytes=MORE_BYTES, fault=fault)
    served = fault.signal_number and ended.status == 128 + fault.signal_number and fault.signal_text in ended.errors
    return replace(ended, status=0) if served else ended


def run_input(samples: Path, seed: int, number: int, scripts: list[str], keep: Path | None = None) -> tuple:
    """Run one input; returns (input, how it ended, what is wrong or None)."""
    random = np.random.default_rng((seed, number))
    with contextlib.ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dinet-fuzz-")))
        shutil.copytree(samples, folder, dirs_exist_ok=True)
        made = make_input(folder, random, scripts)
        before = prints(folder)
        ended = run_script(made, folder)
        return made, ended, judge(made, ended, before, folder)


def run_undamaged(samples: Path, scripts: list[str]) -> int:
    """Run every command line with nothing odd about it; returns how many fail."""
    failed = 0
    for script in scripts:
        for arguments in TEMPLATES[script]:
            with tempfile.TemporaryDirectory(prefix="dinet-fuzz-") as name:
                folder = Path(name)
                shutil.copytree(samples, folder, dirs_exist_ok=True)
                before = prints(folder)
                made = Input(script, list(arguments), "nothing")
                ended = run_script(made, folder)
                problem = judge(made, ended, before, folder) or (f"status {ended.status}" if ended.status else None)
                failed += problem is not None
                print(
                    f"{script}.py: {problem or 'right'} ({ended.seconds:.1f} s, {ended.peak_bytes >> 20} MiB)",
                    flush=True,
                )
                if problem is not None:
                    print(" ".join(arguments), "\n", ended.errors[-2000:], flush=True)
    return failed


def make_samples(folder: Path) -> Path:
    """Write the samples in a child, as threads that compute do not survive a fork."""
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        child = os.fork()
        if child == 0:
            try:
                write_samples(folder)
                (folder / "complete").touch()
            finally:
                os._exit(0 if (folder / "complete").exists() else 1)
        if os.waitpid(child, 0)[1]:
            raise RuntimeError("the samples could not be written")
    return folder


def main() -> int:
    """Run inputs and count what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=40, help="inputs to run")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--undamaged", action="store_true", help="run every command line as it is, and see it succeed")
    parser.add_argument("--script", nargs="+", default=list(SHARES), choices=list(SHARES), help="scripts to run")
    parser.add_argument("--keep", type=Path, help="folder to run in, which is kept; with --count 1")
    parser.add_argument("--samples", type=Path, help="folder of the sample files, kept for other runs")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    preload()
    wrong = 0
    statuses: Counter = Counter()
    with contextlib.ExitStack() as stack:
        samples = options.samples or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dinet-samples-")))
        make_samples(samples)
        if options.undamaged:
            return run_undamaged(samples, options.script)
        for number in range(options.first, options.first + options.count):
            made, ended, problem = run_input(samples, options.seed, number, options.script, options.keep)
            statuses[made.script, ended.status] += 1
            if (done := number - options.first + 1) % 25 == 0:
                print(f"{done} of {options.count} inputs, {wrong} wrong", file=sys.stderr, flush=True)
            if problem is not None or options.count == 1:
                wrong += problem is not None
                scripts = "" if options.script == list(SHARES) else f" --script {' '.join(options.script)}"
                print(f"{made.script}.py, {made.odd}: {problem or 'right'} ({ended.seconds:.1f} s)", flush=True)
                print(f"  python tests/fuzz.py --seed {options.seed} --first {number} --count 1{scripts} --keep DIR")
                print("".join(f"    {line[:300]}\n" for line in ended.errors.splitlines()[-12:]), flush=True)
    for (script, status), count in sorted(statuses.items()):
        print(f"{script}.py: {count} ended with status {status}")
    print(f"{options.count} inputs, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
