"""Many jobs in one process and a long result: memory, open files and threads stay as they are after the start.

python tests/soak.py --jobs 200 --minutes 30 prints them while inference.py runs, and ends with status 1 if they grow.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import psutil  # noqa: E402

ROOT = Path(__file__).parents[1]
PERIOD_SECONDS = 2.0
MORE_MEMORY = 1.05
WEIGHTS = ("--pretrained_clip_DINet_path", "narrow.pth", "--landmark_dir", "cache", "--device", "cpu")


@dataclass(frozen=True)
class Sample:
    """What a process holds after `seconds`: bytes of its own memory, open files, threads."""

    seconds: float
    memory: int
    files: int
    threads: int

    def __str__(self) -> str:
        return f"{self.seconds:6.0f} s: {self.memory / 2**20:7.1f} MiB, {self.files} files, {self.threads} threads"


def write_inputs(folder: Path, jobs: int, minutes: float) -> None:
    """A list of jobs over sources of every kind, and a long speech."""
    from fuzz import make_samples
    from helpers.sample_media import write_speech

    make_samples(folder)
    sources = ("face.mp4,speech.wav,{},face.csv", "face.mkv,speech.mp3,{},face.csv", "face.jpg,speech.wav,{},")
    rows = [sources[number % len(sources)].format(f"out/{number}.mp4") for number in range(jobs)]
    (folder / "many.csv").write_text("\n".join(["source,audio,result,landmarks", *rows]) + "\n")
    write_speech(folder / "talk.wav", 60 * minutes)


def watch(command: list[str], folder: Path) -> list[Sample]:
    """Run inference.py and look at it from time to time.

    Raises:
        RuntimeError: it failed.
    """
    log = folder / "stderr.txt"
    samples: list[Sample] = []
    start = time.monotonic()
    with log.open("w") as errors:
        process = subprocess.Popen([sys.executable, ROOT / "inference.py", *command], cwd=folder, stderr=errors)
        looked_at = psutil.Process(process.pid)
        while process.poll() is None:
            time.sleep(PERIOD_SECONDS)
            try:
                memory = looked_at.memory_full_info().uss
                sample = Sample(time.monotonic() - start, memory, looked_at.num_fds(), looked_at.num_threads())
            except (psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError, FileNotFoundError):
                break
            if memory:  # not a zombie's
                samples.append(sample)
                if len(samples) % 30 == 0:
                    print(f"  {sample}", flush=True)
    if process.wait():
        raise RuntimeError(log.read_text()[-2000:])
    return samples


def judge(name: str, samples: list[Sample], settle: float) -> bool:
    """Print what a process held after the start and at the end; returns whether it held no more at the end."""
    early = [sample for sample in samples if sample.seconds <= settle] or samples[:1]
    late = samples[-6:-1] or samples  # the last one may be of a process that ends
    first = max(early[-3:], key=lambda sample: sample.memory)
    last = max(late, key=lambda sample: sample.memory)
    steady = (
        last.memory <= first.memory * MORE_MEMORY
        and min(sample.files for sample in late) <= max(sample.files for sample in early[-10:])
        and min(sample.threads for sample in late) <= max(sample.threads for sample in early[-10:])
    )
    change = 100 * (last.memory / first.memory - 1)
    print(
        f"{name}: {'steady' if steady else 'GROWS'} ({change:+.1f} % memory)\n  early {first}\n  late  {last}",
        flush=True,
    )
    return steady


def main() -> int:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=200, help="jobs in one process; 0: none")
    parser.add_argument("--minutes", type=float, default=30, help="length of the long result; 0: none")
    parser.add_argument("--settle", type=float, default=120, help="seconds after which memory counts as settled")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    steady = True
    with tempfile.TemporaryDirectory(prefix="dinet-soak-") as name:
        folder = Path(name)
        write_inputs(folder, options.jobs, options.minutes)
        if options.jobs:
            samples = watch(["--jobs", "many.csv", "--res_video_dir", "out", *WEIGHTS], folder)
            made = len(list((folder / "out").glob("*.mp4")))
            print(f"{made} of {options.jobs} results")
            steady &= judge("jobs", samples, min(options.settle, samples[-1].seconds / 4)) and made == options.jobs
        if options.minutes:
            command = ["--source_video_path", "face.mp4", "--driving_audio_path", "talk.wav", "--res_video_dir", "long",
                       "--source_openface_landmark_path", "face.csv", "--max_seconds", "7200"]  # fmt: skip
            samples = watch([*command, *WEIGHTS], folder)
            steady &= judge("long result", samples, min(options.settle, samples[-1].seconds / 4))
    return 0 if steady else 1


if __name__ == "__main__":
    sys.exit(main())
