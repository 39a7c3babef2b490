import pytest

from utils.data_processing.hdtf import read_annotations
from utils.data_processing.settings import TimeSpan
from utils.errors import UserError

LINES = """\
Radio11.mp4 00:30-01:00 01:30-02:30
WDA_AmyKlobuchar1.mp4 00:35-02:45 03:25-04:00 05:05-06:05 06:45-07:40

AdamKinzinger2.mp4 00:40-01:20 02:00-02:40 03:30-03:50 \n"""


def test_hdtf_lines(tmp_path):
    (tmp_path / "RD_annotion_time.txt").write_text(LINES)
    spans = read_annotations(tmp_path / "RD_annotion_time.txt", "--annotation_path")
    assert spans["Radio11"] == [TimeSpan(30, 60), TimeSpan(90, 150)]
    assert len(spans["WDA_AmyKlobuchar1"]) == 4
    assert spans["AdamKinzinger2"][-1] == TimeSpan(210, 230)


def test_a_folder_of_files(tmp_path):
    (tmp_path / "RD_annotion_time.txt").write_text("a.mp4 00:00-00:10")
    (tmp_path / "WDA_annotion_time.txt").write_text("my talk 2.mp4 00:05-00:10 1:00:00-1:00:30")
    (tmp_path / "other.txt").write_text("not an annotation")
    spans = read_annotations(tmp_path, "--annotation_path")
    assert spans == {"a": [TimeSpan(0, 10)], "my talk 2": [TimeSpan(5, 10), TimeSpan(3600, 3630)]}


@pytest.mark.parametrize(
    "text",
    [
        "a.mp4",
        "a.mp4 00:10",
        "a.mp4 00:10-00:05",
        "00:10-00:20",
        "a.mp4 0:10-0:2x",
        "a.mp4 00:01-00:02\na.mp4 00:03-00:04",
    ],
)
def test_other_lines_are_one_clear_error(tmp_path, text):
    path = tmp_path / "x_annotion_time.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=r"^--annotation_path: .*x_annotion_time.txt line \d: "):
        read_annotations(path, "--annotation_path")


def test_missing_files(tmp_path):
    with pytest.raises(UserError, match="annotion_time"):
        read_annotations(tmp_path, "--annotation_path")
    with pytest.raises(UserError, match="does not exist"):
        read_annotations(tmp_path / "none.txt", "--annotation_path")
