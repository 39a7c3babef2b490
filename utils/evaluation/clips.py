"""Which videos are scored against which, and the trivial baselines that a dub has to beat."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from utils.dubbing.engine import Dubber, Speech
from utils.dubbing.settings import DubbingJob, DubbingOptions
from utils.errors import UserError, blame, require_file
from utils.evaluation.evaluator import CROSS, MOUTH_REGION_SIZE, SELF, Comparison
from utils.executors import local_executor, run_all, usable_cores
from utils.face.analysis import NoFaceError, analyze_video, landmark_cache
from utils.face.crop_geometry import mouth_region
from utils.media.audio import Waveform, load_waveform, write_wav
from utils.media.video_reader import VideoReader
from utils.speech.extractor import FeatureExtractor

DUBBED_SUFFIX = "_facial_dubbing_add_audio"
FACE_SUFFIX = "_synthetic_face"
VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv"}
UNTOUCHED, PASTED, PASTED_MEAN = "untouched source", "pasted reference", "pasted mean"
MIDDLE_REFERENCE = 2
"""Of the five references, which go from the closed mouth to the open one."""


def pair_files(generated: Path, reference: Path) -> list[tuple[str, Path, Path]]:
    """Pair dubbed videos with true ones: (name, generated, reference).

    Two files are a pair; a folder's videos find theirs by name, with or without inference.py's suffix. True videos
    without a dub are left out.

    Raises:
        UserError: nothing there, or a dubbed video without a true one.
    """
    for path, option in ((generated, "--generated"), (reference, "--reference")):
        if not path.is_dir():
            require_file(path, option, "give a video or a folder of videos")
    if not generated.is_dir() and not reference.is_dir():
        return [(_bare_name(generated), generated, reference)]
    true = {path.stem: path for path in _videos(reference, "--reference")}
    pairs = []
    for path in _videos(generated, "--generated"):
        name = _bare_name(path)
        match = true.get(path.stem) or true.get(name)
        if match is None:
            raise UserError(
                f"--generated: {path} has no video named {name} in {reference}; rename it, or move it elsewhere"
            )
        pairs.append((name, path, match))
    return pairs


def read_clip_list(entries: Sequence[Path]) -> list[Path]:
    """Videos of `--clips`: the entries themselves, and for text files one path a line, relative to the file.

    Raises:
        UserError: a file is missing, two clips have one name, or there is none.
    """
    clips = []
    for entry in entries:
        require_file(entry, "--clips", "give videos, or a text file with the path of one a line")
        if entry.suffix.lower() != ".txt":
            clips.append(entry)
            continue
        try:
            lines = [line.strip() for line in entry.read_text(encoding="utf-8-sig").splitlines()]
        except UnicodeDecodeError:
            raise UserError(f"--clips: {entry} is no text; write the path of one video a line") from None
        for line in lines:
            if line and not line.startswith("#"):
                clips.append(require_file(entry.parent / line, "--clips", f"mend the line in {entry}"))
    if not clips:
        raise UserError("--clips: no video is named; give videos, or a text file with the path of one a line")
    names = [clip.stem for clip in clips]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise UserError(f"--clips: two videos are named {double}; rename one, as results go by the name")
    return clips


def cut_sound(audio: Path, length: float, path: Path, option: str, whole: bool = False) -> Path:
    """Write the first `length` seconds of a file's sound as a wav, so that a dub with it shows each frame once.

    With `whole`, silence follows sound that is shorter, so that each frame is shown indeed.
    """
    waveform = load_waveform(audio, option)
    count = round(length * waveform.rate)
    samples = waveform.samples[:count]
    if whole:
        samples = np.pad(samples, (0, count - len(samples)))
    write_wav(path, Waveform(samples, waveform.rate))
    return path


def video_seconds(path: Path, option: str) -> float:
    """Length of a video's pictures."""
    reader = VideoReader(path, option)
    return float(reader.times[-1] + 1 / float(reader.info.rate))


def truth(comparison: Comparison) -> Comparison:
    """The row of the true video itself."""
    sound = (
        comparison.reference if VideoReader(comparison.reference, comparison.reference_option).info.has_audio else None
    )
    return replace(
        comparison,
        row="truth",
        generated=comparison.reference,
        generated_option=comparison.reference_option,
        sound=sound,
        same_words=True,
    )


class PastedMouth:
    """Stands in for a generator: the mouth square of a reference frame, or the mean of all five, whatever is said."""

    mouth_region_size = MOUTH_REGION_SIZE
    device = torch.device("cpu")

    def __init__(self, mean: bool):
        self._mean = mean

    def set_references(self, references: torch.Tensor) -> None:
        """Take the references, [5, 3, H, W] in [0, 1]."""
        mouth = references[(..., *mouth_region(MOUTH_REGION_SIZE))]
        self._mouth = mouth.mean(0) if self._mean else mouth[MIDDLE_REFERENCE]

    def __call__(self, crops: torch.Tensor, audio: torch.Tensor, first_row: int = 0) -> torch.Tensor:
        """Return crops [B, 3, H, W] with the mouth replaced."""
        del audio, first_row
        pasted = crops.clone()
        pasted[(..., *mouth_region(MOUTH_REGION_SIZE))] = self._mouth
        return pasted


class UntouchedMouth:
    """Stands in for a generator that makes the true pictures: what cutting, pasting and encoding alone cost."""

    mouth_region_size = MOUTH_REGION_SIZE
    device = torch.device("cpu")

    def set_references(self, references: torch.Tensor) -> None:
        """It needs none."""

    def __call__(self, crops: torch.Tensor, audio: torch.Tensor, first_row: int = 0) -> torch.Tensor:
        """Return crops [B, 3, H, W] as they are."""
        return crops


def baselines(comparison: Comparison, folder: Path, landmark_dir: Path | None) -> list[Comparison]:
    """Make the baselines of a dub: the untouched source, a pasted reference and the mean of the references.

    The untouched source is encoded as a dub is where the words are its own: no dub can be nearer to the truth.

    Raises:
        UserError: there is no sound to go with them.
    """
    if comparison.sound is None:
        raise UserError(
            f"--baselines: neither {comparison.generated} nor {comparison.reference} has sound, which sets their "
            "length; leave the option out"
        )
    rows = []
    engines = {PASTED: PastedMouth(mean=False), PASTED_MEAN: PastedMouth(mean=True)}
    if comparison.same_words:
        engines = {UNTOUCHED: UntouchedMouth()} | engines
    else:
        source = replace(comparison, row=UNTOUCHED, generated=comparison.reference, generated_option="--reference")
        rows.append(source)
    for row, generator in engines.items():
        name = f"{comparison.clip}_{comparison.task}_{row.replace(' ', '_')}.mp4"
        engine = Dubber(
            generator, _mel_speech, landmark_dir, DubbingOptions(blend="feather")
        )  # adds nothing of its own
        sound = cut_sound(
            comparison.sound,
            video_seconds(comparison.reference, comparison.reference_option),
            folder / f"{comparison.clip}_{comparison.task}.wav",
            comparison.generated_option,
            comparison.same_words,
        )
        path = folder / name
        engine.dub(
            DubbingJob(
                comparison.reference, sound, path, source_option=comparison.reference_option, audio_option="--baselines"
            )
        )
        rows.append(replace(comparison, row=row, generated=path, generated_option="--baselines"))
    return rows


def dub_clips(
    clips: Sequence[Path], driving: Sequence[Path], folder: Path, dub: Callable[[DubbingJob], object]
) -> list[Comparison]:
    """Dub each clip with its own words ("self") and, in turn, with the driving audio or the next clip's ("cross").

    Args:
        clips: videos with sound.
        driving: audio files; empty takes the other clips' sound.
        folder: where the dubs go.
        dub: runs one job.
    """
    comparisons = []
    for number, clip in enumerate(clips):
        if not VideoReader(clip, "--clips").info.has_audio:
            raise UserError(f"--clips: {clip} has no sound, and its mouth no words to be dubbed with; leave it out")
        other = driving[number % len(driving)] if driving else clips[(number + 1) % len(clips)]
        for task, audio in ((SELF, clip), (CROSS, other)):
            if task == CROSS and audio == clip:
                continue
            same = task == SELF
            path = folder / f"{clip.stem}_{task}.wav"
            sound = cut_sound(audio, video_seconds(clip, "--clips"), path, "--clips", same)
            result = folder / f"{clip.stem}_{task}{DUBBED_SUFFIX}.mp4"
            dub(DubbingJob(clip, sound, result, source_option="--clips", audio_option="--clips"))
            driver = None if same or audio.suffix.lower() not in VIDEO_SUFFIXES else audio
            comparisons.append(
                Comparison(clip.stem, task, "dubbed", result, clip, sound, same, driver, "--clips", "--clips")
            )
    return comparisons


def _mel_speech(path: Path) -> Speech:
    features, duration = FeatureExtractor("mel").extract(path, "--baselines")
    return Speech(features, duration, path)


def _bare_name(path: Path) -> str:
    return path.stem.removesuffix(DUBBED_SUFFIX)


def _videos(path: Path, option: str) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() in VIDEO_SUFFIXES
        and not file.name.startswith(".")
        and not file.stem.endswith(FACE_SUFFIX)  # of inference.py --save_face_video
    )
    if not found:
        raise UserError(f"{option}: {path} has no videos ({', '.join(sorted(VIDEO_SUFFIXES))}); name another folder")
    return found


def detect_landmarks(comparisons: Sequence[Comparison], landmark_dir: Path, workers: int | None) -> None:
    """Detect the landmarks of all videos that lack them, in several processes, as dlib holds Python's lock.

    Raises:
        UserError: a video that cannot be read.
    """
    videos: dict[Path, str] = {}
    for comparison in comparisons:
        videos.setdefault(comparison.generated, comparison.generated_option)
        videos.setdefault(comparison.reference, comparison.reference_option)
        if comparison.driver is not None:
            videos.setdefault(comparison.driver, comparison.reference_option)
    jobs = [
        (path, landmark_dir, option)
        for path, option in videos.items()
        if not landmark_cache(path, landmark_dir).exists()
    ]
    if not jobs:
        return
    with local_executor(min(len(jobs), workers or usable_cores())) as executor:
        for _ in tqdm(run_all(executor, _detect, jobs), desc="landmarks", total=len(jobs), unit="video", disable=None):
            pass


def _detect(job: tuple[Path, Path, str]) -> None:
    path, landmark_dir, option = job
    with contextlib.suppress(NoFaceError), blame(option):  # the evaluation says what no face means
        analyze_video(path, landmark_dir=landmark_dir)
