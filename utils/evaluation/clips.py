"""Finds the videos to score: pairs of files, or clips to dub."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from utils.dubbing.settings import DUBBED_SUFFIX, FACE_SUFFIX, DubbingJob
from utils.errors import UserError, blame, require_file
from utils.evaluation.comparison import CROSS, DUBBED, SELF, TRUTH, Comparison
from utils.media.audio import Waveform, load_waveform, write_wav
from utils.media.suffixes import VIDEO_SUFFIXES, list_videos
from utils.media.video_reader import VideoReader


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
        return [(_name_without_suffix(generated), generated, reference)]
    true = {path.stem: path for path in _videos(reference, "--reference")}
    pairs = []
    for path in _videos(generated, "--generated"):
        name = _name_without_suffix(path)
        match = true.get(path.stem) or true.get(name)
        if match is None:
            raise UserError(
                f"--generated: {path} has no video named {name} in {reference}; rename it, or move it elsewhere"
            )
        pairs.append((name, path, match))
    return pairs


def read_clip_list(entries: Sequence[Path]) -> list[Path]:
    """Videos of `--clips`: files, all videos of folders, and the paths in text files, one per line.

    Paths in a text file are relative to it.

    Raises:
        UserError: a file is missing, two clips have one name, or there is none.
    """
    clips = []
    for entry in entries:
        if entry.is_dir():
            clips += _videos(entry, "--clips")
            continue
        require_file(entry, "--clips", "give videos, folders, or text files with one path per line")
        if entry.suffix.lower() != ".txt":
            clips.append(entry)
            continue
        try:
            lines = [line.strip() for line in entry.read_text(encoding="utf-8-sig").splitlines()]
        except UnicodeDecodeError:
            raise UserError(f"--clips: {entry} is no text file; write one path per line") from None
        for line in lines:
            if line and not line.startswith("#"):
                clips.append(require_file(entry.parent / line, "--clips", f"correct the line in {entry}"))
    if not clips:
        raise UserError("--clips: no video is named; give videos, folders, or text files with one path per line")
    names = [clip.stem for clip in clips]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise UserError(f"--clips: two videos are named {double}; rename one: results are named after the videos")
    return clips


def cut_audio(audio: Path, seconds: float, path: Path, option: str, pad: bool = False) -> Path:
    """Write the first seconds of a file's audio as a wav, so that a dub with it shows each frame once.

    Args:
        audio: audio file or video.
        seconds: length of the dubbed video.
        path: the wav.
        option: command-line option that `audio` came from, for error messages.
        pad: fill up shorter audio with silence, so that every frame is shown.
    """
    waveform = load_waveform(audio, option)
    count = round(seconds * waveform.rate)
    samples = waveform.samples[:count]
    if pad:
        samples = np.pad(samples, (0, count - len(samples)))
    write_wav(path, Waveform(samples, waveform.rate))
    return path


def video_seconds(path: Path) -> float:
    """Length of a video track in seconds."""
    reader = VideoReader(path)
    return float(reader.times[-1] + 1 / float(reader.info.rate))


def truth(comparison: Comparison) -> Comparison:
    """The row of the true video itself."""
    has_audio = VideoReader(comparison.reference).info.has_audio
    return replace(
        comparison,
        row=TRUTH,
        generated=comparison.reference,
        audio=comparison.reference if has_audio else None,
        same_audio=True,
        driving_video=None,
    )


def dub_clips(
    clips: Sequence[Path], driving: Sequence[Path], folder: Path, dub: Callable[[DubbingJob], object]
) -> list[Comparison]:
    """Dub each clip with its own audio ("self"), and with the driving audio in turn or the next clip's ("cross").

    Args:
        clips: videos with audio.
        driving: audio files; empty takes the other clips' audio.
        folder: where the dubs go.
        dub: runs one job.

    Raises:
        UserError: a clip without audio, or one that cannot be dubbed.
    """
    comparisons = []
    for number, clip in enumerate(clips):
        with blame("--clips"):
            if not VideoReader(clip).info.has_audio:
                raise UserError(
                    f"{clip} has no audio track, so there is nothing to dub it with; remove it from the list"
                )
            seconds = video_seconds(clip)
        other = driving[number % len(driving)] if driving else clips[(number + 1) % len(clips)]
        for task, audio in ((SELF, clip), (CROSS, other)):
            if task == CROSS and audio == clip:
                continue
            same = task == SELF
            option = "--driving_audio" if driving and not same else "--clips"
            cut = cut_audio(audio, seconds, folder / f"{clip.stem}_{task}.wav", option, same)
            result = folder / f"{clip.stem}_{task}{DUBBED_SUFFIX}.mp4"
            dub(DubbingJob(clip, cut, result, source_option="--clips", audio_option=option))
            driving_video = None if same or audio.suffix.lower() not in VIDEO_SUFFIXES else audio
            comparisons.append(
                Comparison(clip.stem, task, DUBBED, result, clip, cut, same, driving_video, audio_option=option)
            )
    return comparisons


def _name_without_suffix(path: Path) -> str:
    return path.stem.removesuffix(DUBBED_SUFFIX)


def _videos(path: Path, option: str) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [video for video in list_videos(path) if not video.stem.endswith(FACE_SUFFIX)]
    if not found:
        raise UserError(f"{option}: {path} has no videos ({', '.join(VIDEO_SUFFIXES)}); name another folder")
    return found
