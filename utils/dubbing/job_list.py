"""Lists of videos to dub in one run: csv with a header, or a JSON object a line."""

import csv
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from utils.errors import UserError, require_file

OPTION = "--jobs"
_NEEDED = ("source", "audio")
_KNOWN = (*_NEEDED, "result", "landmarks")
_SHAPE = "a csv with the columns source, audio and, if wanted, result and landmarks; or lines of JSON with these keys"


@dataclass(frozen=True)
class ListedJob:
    """A line of the list; paths count from the folder that the program is run in."""

    line: int
    source: Path
    audio: Path
    result: Path
    landmarks: Path | None


def read_jobs(path: Path, result_dir: Path) -> list[ListedJob]:
    """Read a list of jobs. Files that it names are not looked at.

    Args:
        path: the list, `.csv`, or anything else with a JSON object a line.
        result_dir: folder of results that have no path of their own: SOURCE_AUDIO_facial_dubbing_add_audio.mp4.

    Raises:
        UserError: no such list, or two jobs with the same result.
    """
    path = require_file(path, OPTION, f"it is {_SHAPE}")
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = _csv_rows(text) if path.suffix.lower() == ".csv" else _json_rows(text)
    except (UnicodeDecodeError, ValueError, csv.Error) as error:
        raise UserError(f"{OPTION}: {path} cannot be read ({error}); it has to be {_SHAPE}") from None
    jobs = [_job(row, number, path, result_dir) for number, row in rows]
    if not jobs:
        raise UserError(f"{OPTION}: {path} names no job; it has to be {_SHAPE}")
    result, count = Counter(job.result.absolute() for job in jobs).most_common(1)[0]
    if count > 1:
        raise UserError(f"{OPTION}: {path} has {count} jobs that write {result}; give each a result of its own")
    return jobs


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
    source, audio = Path(row["source"]), Path(row["audio"])
    result = row.get("result") or result_dir / f"{source.stem}_{audio.stem}_facial_dubbing_add_audio.mp4"
    return ListedJob(line, source, audio, Path(result), Path(row["landmarks"]) if row.get("landmarks") else None)
