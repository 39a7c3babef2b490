import numpy as np
import pytest
from helpers.landmarks import landmark_table, spiral

from utils.errors import UserError
from utils.face.openface_csv import check_table_fits, read_openface_csv, write_openface_csv


def csv_text(rows, lead=("frame", "face_id", "timestamp", "confidence", "success"), extra=(), separator=", "):
    names = [*lead, *extra, *[f"x_{i}" for i in range(68)], *[f"y_{i}" for i in range(68)]]
    lines = [separator.join(names)]
    for frame, points in rows:
        head = {"frame": frame, "face_id": 0, "timestamp": 0.04 * frame, "confidence": 0.98, "success": 1}
        lines.append(
            separator.join(str(v) for v in [*[head[n] for n in lead], *[0.5 for _ in extra], *points.T.ravel()])
        )
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"lead": ("frame", "timestamp", "confidence", "success")},
        {"extra": ("gaze_0_x", "pose_Tx", "p_scale")},
        {"separator": ","},
        {"lead": ("frame",)},
    ],
)
def test_every_layout_of_openface_is_read_by_name(tmp_path, layout):
    (tmp_path / "a.csv").write_text(csv_text([(1, spiral(100, 100)), (2, spiral(101, 100))], **layout))
    read = read_openface_csv(tmp_path / "a.csv")
    assert read.frame.tolist() == [0, 1]
    assert read.success.all()
    np.testing.assert_allclose(read.points[1], spiral(101, 100), rtol=1e-5)


def test_what_is_written_is_read_back(tmp_path):
    rows = [
        (0, 1, spiral(50, 60)),
        (0, 0, spiral(200, 60)),
        (2, 0, spiral(201, 60)),
        (1, 0, np.zeros((68, 2)), False),
    ]
    write_openface_csv(tmp_path / "a.csv", landmark_table(rows), 25.0)
    read = read_openface_csv(tmp_path / "a.csv")
    assert list(zip(read.frame, read.face_id, read.success, strict=True)) == [
        (0, 0, True),
        (0, 1, True),
        (1, 0, False),
        (2, 0, True),
    ]
    np.testing.assert_allclose(read.points[1], spiral(50, 60), atol=0.0051)
    assert (tmp_path / "a.csv").read_text().startswith("frame, face_id, timestamp, confidence, success, x_0, ")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_frames_of_long_videos_keep_their_landmarks(tmp_path):
    (tmp_path / "a.csv").write_text(csv_text([(1, spiral(100, 100)), (150_000, spiral(101, 100))]))
    read = read_openface_csv(tmp_path / "a.csv")
    assert read.frame.tolist() == [0, 149_999] and read.success.all()


GOOD = csv_text([(1, spiral(100, 100)), (2, spiral(101, 100))])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "empty"),
        ("a,b\n1,2\n", "no column 'frame'"),
        (GOOD.replace("x_17", "z_17"), "no column 'x_17'"),
        (GOOD.split("\n")[0], "no rows"),
        (GOOD.replace("151.0", "many"), "line 3"),
        (GOOD[:-200], "line 3"),
        (GOOD.replace(", 0.98, 1,", ", 0.98, 0,"), "no frame in which a face was tracked"),
        (GOOD.replace("\n1, ", "\n0, "), "start at 1"),
        (GOOD.replace("150.0", "nan").replace("151.0", "nan"), "no frame in which"),
        (b"\xff\xfe\x00\x01" * 100, "not a text file"),
    ],
)
def test_a_csv_that_cannot_be_used_is_explained_in_one_line(tmp_path, content, problem):
    path = tmp_path / "bad.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"bad\.csv") as error:
        read_openface_csv(path)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_a_few_bad_rows_are_left_out(tmp_path, caplog):
    lines = csv_text([(number, spiral(100 + number, 100)) for number in range(1, 31)]).splitlines()
    lines[5] = lines[5].replace("150.0", "many")
    lines[9] = "nan" + lines[9].lstrip("0123456789")
    lines[-1] = lines[-1][:-50]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    read = read_openface_csv(tmp_path / "a.csv")
    assert read.frame.tolist() == [frame for frame in range(30) if frame not in (4, 8, 29)]
    assert "a.csv, line 6 is cut off or has values that are not numbers, and 2 more: left out" in caplog.text


@pytest.mark.parametrize(("frames", "size"), [(300, (640, 480)), (10, (60, 60))])
def test_a_csv_of_another_video_is_refused(tmp_path, frames, size):
    with pytest.raises(UserError, match="another video"):
        check_table_fits(landmark_table([(i, 0, spiral(300, 300)) for i in range(10)]), frames, *size, tmp_path)
    check_table_fits(landmark_table([(i, 0, spiral(300, 300)) for i in range(10)]), 11, 640, 480, tmp_path)


@pytest.mark.clips
@pytest.mark.parametrize("name", ["openface_640x480.csv", "openface_older_layout.csv"])
def test_real_openface_files(clips_dir, name):
    read = read_openface_csv(clips_dir / name)
    assert read.success.mean() > 0.9
    assert np.isfinite(read.points).all()
    assert read.points.max() > 100
