"""Lists of videos to dub in one run (`--jobs`): csv with a header, or one JSON object per line."""

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from utils.dubbing.settings import DUBBED_SUFFIX, FACE_SUFFIX
from utils.errors import UserError, require_file
from utils.files import file_keys, fit_name

OPTION = "--jobs"
_NEEDED = ("source", "audio")
_KNOWN = (*_NEEDED, "result", "landmarks")
_SHAPE = "a csv with the columns source, audio and, if wanted, result and landmarks; or lines of JSON with these keys"


@dataclass(frozen=True)
class ListedJob:
    """A line of the list. Its paths are relative to the folder of the list."""

    line: int
    source: Path
    audio: Path
    result: Path
    landmarks: Path | None

    @property
    def face_video(self) -> Path:
        """Path of the video of the generated faces, for --save_face_video."""
        if not self.result.name:  # a folder, which is refused when the job is run
            return self.result
        return self.result.with_name(fit_name(self.result.stem, f"{FACE_SUFFIX}.mp4"))


def read_jobs(path: Path, result_dir: Path) -> list[ListedJob]:
    """Read a list of jobs. The files that it names are not checked.

    Args:
        path: the list, `.csv`, or any other file with one JSON object per line.
        result_dir: folder of results that have no path of their own: SOURCE_AUDIO_facial_dubbing_add_audio.mp4.

    Raises:
        UserError: no such list.
    """
    path = require_file(path, OPTION, f"it is {_SHAPE}")
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = _csv_rows(text) if path.suffix.lower() == ".csv" else _json_rows(text)
    except (UnicodeDecodeError, ValueError, RecursionError, csv.Error) as error:
        raise UserError(f"{OPTION}: {path} cannot be read ({error}); it has to be {_SHAPE}") from None
    jobs = [_job(row, number, path, result_dir) for number, row in rows]
    if not jobs:
        raise UserError(f"{OPTION}: {path} names no job; it has to be {_SHAPE}")
    return jobs


def check_overwriting(path: Path, jobs: list[ListedJob], save_face_video: bool, others: Iterable[Path]) -> None:
    """Check that no job writes a file that it or another job reads or writes, under any name.

    Args:
        path: the list.
        jobs: its lines.
        save_face_video: each job writes its `face_video` too.
        others: files that are read beside those of the list, such as the weights.

    Raises:
        UserError: naming the line and the file.
    """
    read = {key: "is read" for other in (path, *others) for key in file_keys(other)}
    for job in jobs:
        for name in (job.source, job.audio, job.landmarks):
            if name is not None:
                read |= dict.fromkeys(file_keys(name), f"is read by line {job.line}")
    written: dict[tuple, str] = {}
    for job in jobs:
        for name in (job.result, *([job.face_video] if save_face_video and job.result.name else [])):
            keys = file_keys(name)
            for key in keys:
                use = read.get(key) or written.get(key)
                if use is not None:
                    raise UserError(
                        f"{OPTION}: {path}, line {job.line} writes {name}, which {use}; give it a result of its own"
                    )
            written |= dict.fromkeys(keys, f"is written by line {job.line} too")


def _csv_rows(text: str) -> list[tuple[int, dict]]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True, strict=True)
    return [(reader.line_num, row) for row in reader if any(row.values())]


def _json_rows(text: str) -> list[tuple[int, dict]]:
    rows = [(number, json.loads(line)) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not all(isinstance(row, dict) for _, row in rows):
        raise ValueError("a line is not an object")
    return rows


def _job(row: dict, line: int, path: Path, result_dir: Path) -> ListedJob:
    unknown = [key for key in row if key not in _KNOWN]
    missing = [key for key in _NEEDED if not row.get(key)]
    wrong = [key for key in _KNOWN if not isinstance(row.get(key) or "", str)]
    if unknown or missing or wrong:
        problem = f"has no {missing[0]}" if missing else f"has {(unknown or wrong)[0]!r}, which is not understood"
        raise UserError(f"{OPTION}: {path}, line {line} {problem}; it has to be {_SHAPE}")
    folder = path.parent
    source, audio = folder / row["source"], folder / row["audio"]
    result = result_dir / fit_name(f"{source.stem}_{audio.stem}", f"{DUBBED_SUFFIX}.mp4")
    if row.get("result"):
        result = folder / row["result"]
    return ListedJob(line, source, audio, result, folder / row["landmarks"] if row.get("landmarks") else None)
