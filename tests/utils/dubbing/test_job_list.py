"""Lists of jobs: nothing that is read is overwritten, by whatever name, and nothing is written twice."""

from pathlib import Path

import pytest

from utils.dubbing.job_list import check_overwriting, read_jobs
from utils.errors import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("a.mp4", "b.mp4", "a.wav", "b.wav", "a.csv", "w.pth"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "results").mkdir()
    (tmp_path / "linked").symlink_to("results")
    (tmp_path / "same.mp4").symlink_to("a.mp4")
    (tmp_path / "hard.mp4").hardlink_to(tmp_path / "a.mp4")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(*rows: str, faces: bool = False) -> None:
    path = Path("jobs.csv")
    path.write_text("source,audio,result,landmarks\n" + "\n".join(rows) + "\n")
    check_overwriting(path, read_jobs(path, Path("results")), faces, [Path("w.pth")])


@pytest.mark.parametrize(
    ("rows", "line", "use"),
    [
        (["a.mp4,a.wav,a.mp4,"], 2, "is read by line 2"),
        (["a.mp4,a.wav,a.wav,"], 2, "is read by line 2"),
        (["a.mp4,a.wav,a.csv,a.csv"], 2, "is read by line 2"),
        (["a.mp4,a.wav,w.pth,"], 2, "is read"),
        (["a.mp4,a.wav,jobs.csv,"], 2, "is read"),
        (["a.mp4,a.wav,b.mp4,", "b.mp4,b.wav,,"], 2, "is read by line 3"),
        (["a.mp4,a.wav,same.mp4,"], 2, "is read by line 2"),
        (["a.mp4,a.wav,hard.mp4,"], 2, "is read by line 2"),
        (["a.mp4,a.wav,results/../a.mp4,"], 2, "is read by line 2"),
        (["a.mp4,a.wav,x.mp4,", "b.mp4,b.wav,x.mp4,"], 3, "is written by line 2 too"),
        (["a.mp4,a.wav,results/x.mp4,", "b.mp4,b.wav,linked/x.mp4,"], 3, "is written by line 2 too"),
        (["a.mp4,a.wav,results/x.mp4,", "b.mp4,b.wav,results/../results/x.mp4,"], 3, "is written by line 2 too"),
        (["a.mp4,a.wav,,", "a.mp4,a.wav,,"], 3, "is written by line 2 too"),
    ],
)
def test_what_is_read_or_written_is_not_written_again(folder, rows, line, use):
    with pytest.raises(UserError) as caught:
        check(*rows)
    assert str(caught.value).startswith(f"--jobs: jobs.csv, line {line} writes ") and use in str(caught.value)


def test_the_video_of_the_faces_counts_too(folder):
    (folder / "x_synthetic_face.mp4").write_bytes(b"a source")
    check("x_synthetic_face.mp4,a.wav,x.mp4,")
    with pytest.raises(UserError, match=r"line 2 writes x_synthetic_face\.mp4, which is read by line 2"):
        check("x_synthetic_face.mp4,a.wav,x.mp4,", faces=True)


def test_jobs_that_do_not_meet_are_fine(folder):
    check("a.mp4,a.wav,x.mp4,a.csv", "a.mp4,b.wav,,", "b.mp4,a.wav,new/x.mp4,", faces=True)


def test_results_that_cannot_be_do_not_stop_the_list(folder):
    check("a.mp4,a.wav,.,", f"a.mp4,a.wav,{'x' * 300}.mp4,", faces=True)
    Path("jobs.jsonl").write_text('{"source": "a.mp4", "audio": "a.wav", "result": "a\\u0000b\\ud800"}\n')
    check_overwriting(Path("jobs.jsonl"), read_jobs(Path("jobs.jsonl"), Path()), True, [])


def test_the_name_of_a_result_fits_whatever_the_source_is_called(folder):
    path = Path("jobs.csv")
    path.write_text(f"source,audio\n{'ä' * 120}.mp4,{'b' * 200}.wav\n{'ä' * 120}.mp4,{'b' * 201}.wav\n")
    one, two = read_jobs(path, Path("results"))
    assert one.result != two.result and len(one.result.name.encode()) <= 255 and len(one.face_video.name) <= 255


def test_nested_json_is_refused(folder):
    Path("jobs.jsonl").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(UserError, match=r"^--jobs: jobs.jsonl cannot be read"):
        read_jobs(Path("jobs.jsonl"), Path())


def test_paths_are_relative_to_the_list(tmp_path):
    path = tmp_path / "jobs.csv"
    path.write_text(f"source,audio,result,landmarks\nv/a.mp4,/b.wav,r/x.mp4,{tmp_path}/c.csv\n")
    (job,) = read_jobs(path, Path("results"))
    assert (job.source, job.audio) == (tmp_path / "v/a.mp4", Path("/b.wav"))
    assert (job.result, job.landmarks) == (tmp_path / "r/x.mp4", tmp_path / "c.csv")
