"""Clip annotations of the HDTF data set: which parts of a video show a talking face.

A line is `NAME.mp4 MM:SS-MM:SS ...`; part i of NAME.mp4 is called `NAME_i.mp4`.
"""

import re
from pathlib import Path

from utils.data_processing.settings import TimeSpan
from utils.errors import UserError, require_file

FILE_PATTERN = "*_annotion_time.txt"
"""How HDTF spells the names of its annotation files."""

_SPAN = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{2})-(?:(\d+):)?(\d{1,2}):(\d{2})")


def read_annotations(path: Path, option: str) -> dict[str, list[TimeSpan]]:
    """Read one annotation file, or all of a folder: parts of each video, by its name without suffix.

    Raises:
        UserError: no such file, a line in another form, or a video that is listed twice.
    """
    if path.is_dir():
        files = sorted(path.glob(FILE_PATTERN))
        if not files:
            raise UserError(f"{option}: {path} holds no {FILE_PATTERN}; take them from the HDTF repository")
    else:
        files = [require_file(path, option, f"give an annotation file or a folder of {FILE_PATTERN}")]
    spans: dict[str, list[TimeSpan]] = {}
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            if not line.strip():
                continue
            name, annotated = _parse_line(line, f"{option}: {file} line {number}")
            if name in spans:
                raise UserError(f"{option}: {file} line {number}: {name} is listed twice; put its parts on one line")
            spans[name] = annotated
    return spans


def _parse_line(line: str, place: str) -> tuple[str, list[TimeSpan]]:
    # Names may hold spaces: the spans are the words at the end that look like some.
    words = line.split()
    spans: list[TimeSpan] = []
    while words and (match := _SPAN.fullmatch(words[-1])):
        hours, minutes, seconds, *end = (int(group or 0) for group in match.groups())
        spans.insert(0, TimeSpan(hours * 3600 + minutes * 60 + seconds, end[0] * 3600 + end[1] * 60 + end[2]))
        words.pop()
    if not words or not spans or any(span.start >= span.end for span in spans):
        raise UserError(
            f"{place}: {line.strip()!r} is not NAME.mp4 MM:SS-MM:SS ... with times that go up; mend the line"
        )
    return Path(" ".join(words)).stem, spans
