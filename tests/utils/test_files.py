"""Partial files: created exclusively, never through a link, removed when their writer is gone."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from utils import files
from utils.files import (
    PartialFile,
    atomic_path,
    descriptor_name,
    fit_name,
    open_regular_file,
    remove_partial_files,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_link_with_the_name_of_the_partial_file_is_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "0" * 16)  # as if the name had been foreseen
    (tmp_path / f".a.txt.{0:016d}.partial").symlink_to(victim)
    with pytest.raises(FileExistsError), atomic_path(tmp_path / "a.txt") as partial:
        partial.write_text("new")
    assert victim.read_text() == "precious"


def test_a_link_with_the_final_name_is_replaced_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "a.txt").symlink_to(victim)
    with atomic_path(tmp_path / "a.txt") as partial:
        partial.write_text("new")
    assert victim.read_text() == "precious" and (tmp_path / "a.txt").read_text() == "new"
    assert not (tmp_path / "a.txt").is_symlink()


def test_two_writers_of_one_target_do_not_meet(tmp_path):
    with atomic_path(tmp_path / "a.txt") as first, atomic_path(tmp_path / "a.txt") as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a.txt").read_text() == "first"  # the outer block ends last
    assert names(tmp_path) == ["a.txt"]


def test_the_result_has_the_permissions_that_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "a.txt") as partial:
            partial.write_text("x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


WRITE_AND_WAIT = """
import sys, time
from pathlib import Path
from utils.files import atomic_path
with atomic_path(Path(sys.argv[1])) as partial:
    partial.write_text("half")
    print("written", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_is_removed_and_what_one_writes_stays(tmp_path):
    target = tmp_path / "a.txt"
    writer = subprocess.Popen([sys.executable, "-c", WRITE_AND_WAIT, target], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout.readline() == "written\n"
        remove_partial_files(tmp_path, "a.")
        with atomic_path(target) as partial:
            partial.write_text("whole")
        assert len(names(tmp_path)) == 2, "the partial file of a living process was removed"
    finally:
        writer.kill()
        writer.wait()
    with atomic_path(target) as partial:
        partial.write_text("whole")
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "a." + "b" * 240])
def test_names_as_long_as_the_file_system_allows(tmp_path, name):
    with atomic_path(tmp_path / name) as partial:
        partial.write_text("x")
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", [".", "..", "folder"])
def test_a_folder_is_no_target(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError), PartialFile(tmp_path / name):
        pass
    assert names(tmp_path) == ["folder"]


def test_shortened_names_stay_apart_and_whole():
    ending = "_facial_dubbing_add_audio.mp4"
    one, two = (fit_name("ä" * 300 + last, ending) for last in "12")
    assert one != two
    for name in (one, two):
        assert len(name.encode()) <= 255 and name.endswith(ending)
    assert fit_name("short", ending) == "short" + ending


def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    start = time.monotonic()
    with pytest.raises(OSError) as caught:
        open_regular_file(tmp_path / "pipe")
    assert caught.value.errno == errno.EINVAL and time.monotonic() - start < 5


def test_a_descriptors_name_leads_to_the_file_that_was_opened(tmp_path):
    path = tmp_path / "a"
    path.write_text("first")
    descriptor = open_regular_file(path)
    try:
        if descriptor_name(descriptor, path) == str(path):
            pytest.skip("this system has no /proc")
        path.unlink()
        path.write_text("second")
        assert Path(descriptor_name(descriptor, path)).read_text() == "first"
    finally:
        os.close(descriptor)
