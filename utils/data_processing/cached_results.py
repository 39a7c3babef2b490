"""Resumable results: each output is written to a staging folder, then renamed, with a record of what it was made from.

Beside the results of a folder lie `.records/NAME.json`, what each was made from and the facts about it, and, while work
goes on, `.partial/`. An interrupted result has no final name; a result whose record names other sources or parameters
is made again; a result without a record was made by another program and is kept.
"""

import contextlib
import errno
import hashlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from utils.errors import UserError

_RECORDS = ".records"
_PARTIAL = ".partial"

MadeFrom = dict[str, str | int | float | list[str] | None]
"""Fingerprints of the sources, and the parameters that the result depends on."""


@dataclass(frozen=True)
class StepResult:
    """Facts about an output.

    Attributes:
        frames: frames of the video; 0 where they are not counted.
        faces: landmark rows with a face; None if the step detects none.
        clips: numbers of the usable clips; None if the step makes none.
        causes: unusable clips by cause.
    """

    frames: int = 0
    faces: int | None = None
    clips: list[int] | None = None
    causes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CachedResult:
    """A complete output: the facts that `make` returned (none for files not made here), and if it was made now."""

    result: StepResult
    is_new: bool


@dataclass(frozen=True)
class Record:
    """What is kept about an output. `shots` is read from the records of earlier versions only."""

    made_from: MadeFrom
    result: StepResult
    shots: list[int] | None = None


def make_if_stale(target: Path, made_from: MadeFrom, make: Callable[[Path], StepResult | None]) -> CachedResult:
    """Make a file or folder unless it is complete and up to date.

    Safe against an interruption at any moment: the record is in place before the result takes its final name. A result
    that is out of date is removed first: if the new one cannot be made, no later step uses the old one. Two runs may
    make the same result at once.

    Args:
        target: the file or folder.
        made_from: compared with the record of an earlier run.
        make: writes the result under the temporary path that it is given (same name, another folder; a folder is to
            be made by it) and returns facts to keep in the record.
    """
    _remove_leftovers(target)
    record_path = target.parent / _RECORDS / f"{target.name}.json"
    if target.exists():
        record = read_record(target)
        if record is None:
            return CachedResult(StepResult(), is_new=False)
        if record.made_from == made_from:
            return CachedResult(record.result, is_new=False)
    staging = _staging_folder(target)
    staging.mkdir(parents=True)
    try:
        with contextlib.suppress(FileNotFoundError):
            target.rename(staging / "old")
        work = staging / "new"
        work.mkdir()
        result = make(work / target.name) or StepResult()
        new_record = staging / "record.json"
        text = json.dumps({"made_from": made_from, "result": asdict(result)}, sort_keys=True)
        new_record.write_text(text, encoding="utf-8")
        record_path.parent.mkdir(exist_ok=True)
        other = read_record(target) if target.exists() else None
        if other is not None and other.made_from == made_from:
            return CachedResult(other.result, is_new=False)  # another run was faster
        new_record.replace(record_path)
        try:
            (work / target.name).rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            target.rename(staging / "other")  # a folder of another run, which came in this moment
            (work / target.name).rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return CachedResult(result, is_new=True)


def read_record(target: Path) -> Record | None:
    """The record of a result, also one of an earlier version; None if there is none that can be read."""
    try:
        record = json.loads((target.parent / _RECORDS / f"{target.name}.json").read_bytes())
        facts = record["result"]
        known = {each.name: facts[each.name] for each in fields(StepResult) if each.name in facts}
        return Record(record["made_from"], StepResult(**known), facts.get("shots"))
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return None


def remove_empty_staging(folders: Iterable[Path]) -> None:
    """Remove the `.partial` folders that no process is using."""
    for folder in folders:
        with contextlib.suppress(OSError):
            (folder / _PARTIAL).rmdir()


def _staging_folder(target: Path) -> Path:
    """A new temporary folder of this process for `target`, under a random name.

    Raises:
        UserError: a link is in the place of the folder, and would lead elsewhere.
    """
    for folder in (target.parent / _PARTIAL, target.parent / _RECORDS):
        if folder.is_symlink():
            raise UserError(f"{folder} is a link, and results are not written through links; remove it")
    token = secrets.token_hex(8)
    return target.parent / _PARTIAL / f"{_hashed(target)}-{token}@{platform.node()}@{os.getpid()}"


def _hashed(target: Path) -> str:
    """A short name for a target, whose own name may be as long as names can be."""
    return hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]


def _remove_leftovers(target: Path) -> None:
    """Remove what processes that have ended left of `target`."""
    for path in (target.parent / _PARTIAL).glob(f"{_hashed(target)}-*@*@*"):
        _, host, process = path.name.split("@", 2)
        if not process.isdecimal() or path.is_symlink():
            continue  # not made here
        if host != platform.node() or not _is_alive(int(process)):
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(process: int) -> bool:
    if process == os.getpid():
        return False  # an earlier process had the same number
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True
