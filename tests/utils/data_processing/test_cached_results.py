import os
import platform

import pytest

from utils.data_processing import cached_results
from utils.data_processing.cached_results import (
    CachedResult,
    StepResult,
    make_if_stale,
    read_record,
    remove_empty_staging,
)


def maker(text, calls):
    def make(path):
        calls.append(text)
        path.write_text(text)
        return StepResult(len(text))

    return make


def test_finished_work_is_not_done_again(tmp_path):
    calls = []
    first = make_if_stale(tmp_path / "a.txt", {"source": "x"}, maker("one", calls))
    second = make_if_stale(tmp_path / "a.txt", {"source": "x"}, maker("two", calls))
    assert (first.is_new, second.is_new) == (True, False)
    assert first.result == second.result == StepResult(3)
    assert (tmp_path / "a.txt").read_text() == "one" and calls == ["one"]


def test_other_sources_or_parameters_make_it_again(tmp_path):
    calls = []
    make_if_stale(tmp_path / "a.txt", {"source": "x"}, maker("one", calls))
    assert make_if_stale(tmp_path / "a.txt", {"source": "y"}, maker("two", calls)).is_new
    assert (tmp_path / "a.txt").read_text() == "two"
    assert read_record(tmp_path / "a.txt").made_from == {"source": "y"}


def test_what_was_not_made_here_is_kept(tmp_path):
    (tmp_path / "a.csv").write_text("by OpenFace")
    assert not make_if_stale(tmp_path / "a.csv", {"source": "x"}, maker("ours", [])).is_new
    assert (tmp_path / "a.csv").read_text() == "by OpenFace"


def test_a_failure_leaves_nothing_not_even_what_is_out_of_date(tmp_path):
    make_if_stale(tmp_path / "a.txt", {"source": "x"}, maker("one", []))

    def fail(path):
        path.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        make_if_stale(tmp_path / "a.txt", {"source": "y"}, fail)
    remove_empty_staging([tmp_path])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".records"]
    assert make_if_stale(tmp_path / "a.txt", {"source": "x"}, maker("again", [])).is_new


def test_folders_are_replaced_whole(tmp_path):
    def make(names):
        def fill(path):
            path.mkdir()
            for name in names:
                (path / name).touch()

        return fill

    make_if_stale(tmp_path / "crops", {"length": 9}, make(["a", "b"]))
    make_if_stale(tmp_path / "crops", {"length": 5}, make(["c"]))
    assert os.listdir(tmp_path / "crops") == ["c"]  # noqa: PTH208


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path):
    staging = []

    def make(path):
        staging.append(path.parents[1].name)
        path.touch()

    make_if_stale(tmp_path / "a.txt", {}, make)
    key = staging[0].partition("@")[0]
    dead = tmp_path / ".partial" / f"{key}@{platform.node()}@999999999"
    alive = tmp_path / ".partial" / f"{key}@{platform.node()}@{os.getppid()}"
    other = tmp_path / ".partial" / f"other@{platform.node()}@999999999"
    for folder in (dead, alive, other):
        folder.mkdir()
    make_if_stale(tmp_path / "a.txt", {}, make)
    assert [folder.exists() for folder in (dead, alive, other)] == [False, True, True]


def test_a_damaged_record_counts_as_none(tmp_path):
    make_if_stale(tmp_path / "a.txt", {}, maker("one", []))
    (tmp_path / ".records" / "a.txt.json").write_text("{")
    assert read_record(tmp_path / "a.txt") is None


def test_records_of_earlier_versions_are_understood(tmp_path):
    (tmp_path / "a.csv").write_text("landmarks")
    (tmp_path / ".records").mkdir()
    record = tmp_path / ".records" / "a.csv.json"
    record.write_text('{"made_from": {"video": "x"}, "result": {"frames": 50, "faces": 49, "shots": [0, 25]}}')
    kept = make_if_stale(tmp_path / "a.csv", {"video": "x"}, maker("again", []))
    assert kept == CachedResult(StepResult(frames=50, faces=49), is_new=False)
    assert read_record(tmp_path / "a.csv").shots == [0, 25]
    record.write_text('{"made_from": {}}')
    assert read_record(tmp_path / "a.csv") is None


@pytest.mark.parametrize(("theirs", "kept"), [({"source": "x"}, "other"), ({"source": "y"}, "ours")])
def test_two_runs_make_the_same_folder_at_once(tmp_path, monkeypatch, theirs, kept):
    monkeypatch.setattr(cached_results, "_is_alive", lambda process: True)  # both in this process

    def make_folder(text):
        def make(path):
            path.mkdir()
            (path / "text").write_text(text)

        return make

    def slow(path):
        make_if_stale(tmp_path / "crops", theirs, make_folder("other"))  # the other run is faster
        make_folder("ours")(path)

    made = make_if_stale(tmp_path / "crops", {"source": "x"}, slow)
    assert made.is_new == (kept == "ours")
    assert (tmp_path / "crops" / "text").read_text() == kept
    assert read_record(tmp_path / "crops").made_from == {"source": "x"}
    remove_empty_staging([tmp_path])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".records", "crops"]
