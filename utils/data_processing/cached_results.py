"""Results of long work: complete under their final name or not there, and known for what they were made from.

Beside the results of a folder lie `.records/NAME.json`, what each was made from and what came of it, and, while work
goes on, `.partial/`. A result that was interrupted has no final name; a result whose record names other sources or
parameters is made again; a result without a record was not made here and is taken as it is.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_RECORDS = ".records"
_PARTIAL = ".partial"

MadeFrom = dict[str, str | int | float | list[str]]
"""Fingerprints of the sources and the parameters that decide what the result looks like."""


@dataclass(frozen=True)
class Finished:
    """A complete result: what its maker told about it (empty if it was not made here), and whether it is new."""

    result: dict
    is_new: bool


def finish(target: Path, made_from: MadeFrom, make: Callable[[Path], dict | None]) -> Finished:
    """Make a file or folder unless it is complete.

    Safe against an interruption at any moment: the record is in place before the result takes its final name. A result
    that is out of date is removed first: if the new one cannot be made, nothing goes on with the old.

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
            return Finished({}, is_new=False)
        if record["made_from"] == made_from:
            return Finished(record["result"], is_new=False)
    staging = _staging_folder(target)
    staging.mkdir(parents=True)
    try:
        if target.exists():
            target.rename(staging / "old")
        work = staging / "new"
        work.mkdir()
        result = make(work / target.name) or {}
        new_record = staging / "record.json"
        new_record.write_text(json.dumps({"made_from": made_from, "result": result}, sort_keys=True), encoding="utf-8")
        record_path.parent.mkdir(exist_ok=True)
        new_record.replace(record_path)
        (work / target.name).rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Finished(result, is_new=True)


def read_record(target: Path) -> dict | None:
    """Return {"made_from": ..., "result": ...} of a result, or None if it has no readable record."""
    try:
        record = json.loads((target.parent / _RECORDS / f"{target.name}.json").read_bytes())
        return record if {"made_from", "result"} <= record.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def remove_empty_staging(folders: Iterable[Path]) -> None:
    """Remove the `.partial` folders in which nobody is at work."""
    for folder in folders:
        with contextlib.suppress(OSError):
            (folder / _PARTIAL).rmdir()


def _staging_folder(target: Path) -> Path:
    """Temporary folder of this process for `target`; of a hash, as the name may be as long as names can be."""
    name = hashlib.sha256(target.name.encode()).hexdigest()[:16]
    return target.parent / _PARTIAL / f"{name}@{platform.node()}@{os.getpid()}"


def _remove_leftovers(target: Path) -> None:
    """Remove what processes that are no more have left of `target`."""
    prefix = _staging_folder(target).name.partition("@")[0]
    for path in (target.parent / _PARTIAL).glob(f"{prefix}@*"):
        _, host, process = path.name.split("@", 2)
        if host != platform.node() or not _is_alive(int(process)):
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(process: int) -> bool:
    if process == os.getpid():
        return False  # a process of that number was here before this one
    if os.name == "nt":
        return True  # os.kill would do what it says
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True
