"""How scripts end, and what they say: bad paths, errors of the system, signals, closed streams."""

import errno
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from utils.errors import UserError, make_folder, require_file

RUN = "from utils.errors import run_script\nimport errno, os, time, threading\n"


def run(code: str, *, start_signal: int | None = None, **named) -> subprocess.CompletedProcess:
    process = subprocess.Popen(
        [sys.executable, "-c", RUN + code], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **named
    )
    if start_signal is not None:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(start_signal)
    out, errors = process.communicate(timeout=30)
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_unwinds_the_script_and_is_one_line(tmp_path, number, status):
    code = f"""
def main():
    try:
        print("ready", flush=True); time.sleep(20)
    finally:
        open({str(tmp_path / "cleaned")!r}, "w").close()
run_script(main)
"""
    ended = run(code, start_signal=number)
    assert ended.returncode == status
    assert ended.stderr.strip() == f"-c: interrupted ({number.name})"
    assert (tmp_path / "cleaned").exists()


def test_a_signal_in_a_destructor_is_not_lost():
    code = """
class Slow:
    def __del__(self):
        print("ready", flush=True); time.sleep(1)
def main():
    Slow()
    time.sleep(20)
run_script(main)
"""
    start = time.monotonic()
    ended = run(code, start_signal=signal.SIGTERM)
    assert (ended.returncode, ended.stderr.strip()) == (143, "-c: interrupted (SIGTERM)")
    assert time.monotonic() - start < 4  # before it would be killed


def test_a_script_that_does_not_unwind_ends_in_five_seconds():
    code = """
def main():
    while True:
        try:
            print("ready", flush=True); time.sleep(20)
        except BaseException:
            pass
run_script(main)
"""
    start = time.monotonic()
    ended = run(code, start_signal=signal.SIGTERM)
    assert ended.returncode == 143 and time.monotonic() - start < 8
    assert ended.stderr.count("\n") == 1


def test_an_interruption_that_arrives_as_another_error_is_still_one():
    code = """
def main():
    try:
        print("ready", flush=True); time.sleep(20)
    except KeyboardInterrupt:
        raise ImportError("numpy could not be imported")
run_script(main)
"""
    ended = run(code, start_signal=signal.SIGINT)
    assert ended.returncode == 130 and ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        ("OSError(errno.ENOSPC, 'x', 'result.mp4')", "result.mp4: No space left on device; free some space"),
        ("MemoryError()", "not enough memory"),
        ("PermissionError(errno.EACCES, 'x', 'a')", "a: Permission denied; change"),
    ],
)
def test_what_the_system_refuses_is_one_line(raised, words):
    ended = run(f"def main():\n    raise {raised}\nrun_script(main)")
    assert ended.returncode == 2 and words in ended.stderr and ended.stderr.count("\n") == 1


def test_a_bug_keeps_its_traceback():
    ended = run("def main():\n    raise KeyError('x')\nrun_script(main)")
    assert ended.returncode == 1 and "Traceback" in ended.stderr


def test_a_file_opened_without_standard_error_is_not_written_into(tmp_path):
    code = f"""
def main():
    file = open({str(tmp_path / "data")!r}, "w")
    os.write(2, b"a warning of a C library")
    file.write("data"); file.close()
run_script(main)
"""
    command = f"exec {shlex.quote(sys.executable)} -c '{(RUN + code).replace(chr(39), chr(34))}' 2>&-"
    assert subprocess.run(["sh", "-c", command], timeout=30).returncode == 0
    assert (tmp_path / "data").read_text() == "data"


def make_path(kind: str, folder):
    if kind == "missing":
        return folder / "no.mp4"
    if kind == "folder":
        return folder
    if kind == "empty":
        (folder / "empty").touch()
        return folder / "empty"
    if kind == "pipe":
        os.mkfifo(folder / "pipe")
        return folder / "pipe"
    if kind == "loop":
        (folder / "loop").symlink_to("loop")
        return folder / "loop"
    if kind == "long":
        return folder / ("x" * 300)
    if kind == "deep":
        return folder.joinpath(*["y" * 200] * 25)
    if kind == "below a file":
        (folder / "file").write_text("x")
        return folder / "file" / "a"
    return folder / {"null": "a\0b", "surrogate": "a\ud800b"}[kind]


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("missing", "does not exist; check"),
        ("folder", "is a folder, a file is needed; name"),
        ("empty", "is empty (0 bytes); copy"),
        ("pipe", "is a pipe or a device, a file is needed; save"),
        ("loop", "leads in a circle; name"),
        ("long", "is too long for a path; give"),
        ("deep", "is too long for a path; give"),
        ("below a file", "lies below a file; check"),
        ("null", "characters that no file name can have; rename"),
        ("surrogate", "characters that no file name can have; rename"),
    ],
)
def test_every_odd_path_is_one_line_with_a_way_out(tmp_path, kind, problem):
    with pytest.raises(UserError) as caught:
        require_file(make_path(kind, tmp_path), "--thing")
    assert problem in str(caught.value) and str(caught.value).startswith("--thing: ")


@pytest.mark.parametrize("kind", ["long", "deep", "loop", "below a file", "null", "surrogate"])
def test_every_odd_folder_is_one_line_with_a_way_out(tmp_path, kind):
    with pytest.raises(UserError, match="name a"):
        make_folder(make_path(kind, tmp_path), "--thing")


def test_a_folder_that_may_not_be_searched(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:  # a test run as root is refused nothing
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "stat", refuse)
    with pytest.raises(UserError, match="permissions of its folder"):
        require_file(tmp_path / "a", "--thing")
