import numpy as np
import pytest

from utils.errors import UserError
from utils.face.landmarks import LandmarkTable, fill_gaps, follow_face
from utils.face.openface_csv import check_table_fits, read_openface_csv, write_openface_csv

ONE_SHOT = np.array([0])


def face(x, y, size=50.0):
    """[68, 2] points on a spiral of this size round (x, y)."""
    turn = np.linspace(0, 6, 68)
    return np.stack([x + size * np.cos(turn), y + size * np.sin(turn)], -1).astype(np.float32)


def table(rows):
    """From (frame, face_id, points) or (frame, face_id, points, success)."""
    return LandmarkTable(
        frame=np.array([row[0] for row in rows]),
        face_id=np.array([row[1] for row in rows]),
        confidence=np.full(len(rows), 0.98),
        success=np.array([row[3] if len(row) > 3 else True for row in rows]),
        points=np.stack([row[2] for row in rows]),
    )


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
    (tmp_path / "a.csv").write_text(csv_text([(1, face(100, 100)), (2, face(101, 100))], **layout))
    read = read_openface_csv(tmp_path / "a.csv")
    assert read.frame.tolist() == [0, 1]
    assert read.success.all()
    np.testing.assert_allclose(read.points[1], face(101, 100), rtol=1e-5)


def test_what_is_written_is_read_back(tmp_path):
    rows = [(0, 1, face(50, 60)), (0, 0, face(200, 60)), (2, 0, face(201, 60)), (1, 0, np.zeros((68, 2)), False)]
    write_openface_csv(tmp_path / "a.csv", table(rows), 25.0)
    read = read_openface_csv(tmp_path / "a.csv")
    assert list(zip(read.frame, read.face_id, read.success, strict=True)) == [
        (0, 0, True),
        (0, 1, True),
        (1, 0, False),
        (2, 0, True),
    ]
    np.testing.assert_allclose(read.points[1], face(50, 60), atol=0.0051)
    assert (tmp_path / "a.csv").read_text().startswith("frame, face_id, timestamp, confidence, success, x_0, ")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


GOOD = csv_text([(1, face(100, 100)), (2, face(101, 100))])


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
    lines = csv_text([(number, face(100 + number, 100)) for number in range(1, 31)]).splitlines()
    lines[5] = lines[5].replace("150.0", "many")
    lines[9] = "nan" + lines[9].lstrip("0123456789")
    lines[-1] = lines[-1][:-50]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    read = read_openface_csv(tmp_path / "a.csv")
    assert read.frame.tolist() == [frame for frame in range(30) if frame not in (4, 8, 29)]
    assert "a.csv, line 6 is cut off or has something else than numbers, as 2 more: left out" in caplog.text


@pytest.mark.parametrize(("frames", "size"), [(300, (640, 480)), (10, (60, 60))])
def test_a_csv_of_another_video_is_refused(tmp_path, frames, size):
    with pytest.raises(UserError, match="another video"):
        check_table_fits(table([(i, 0, face(300, 300)) for i in range(10)]), frames, *size, tmp_path, "--csv")
    check_table_fits(table([(i, 0, face(300, 300)) for i in range(10)]), 11, 640, 480, tmp_path, "--csv")


def test_the_larger_face_is_followed_whatever_its_id_and_row():
    rows = []
    for frame in range(20):
        small, large = (frame, frame % 2, face(100, 100, 20)), (frame, 1 - frame % 2, face(300 + frame, 200, 50))
        rows += [small, large] if frame % 3 else [large, small]
    points = follow_face(table(rows), 20, ONE_SHOT)
    np.testing.assert_allclose(points[:, 0, 0], 350 + np.arange(20))


def test_a_face_is_chosen_by_id():
    rows = [(frame, number, face(100 + 200 * number, 100, 20 + 20 * number)) for frame in range(5) for number in (0, 1)]
    assert follow_face(table(rows), 5, ONE_SHOT, face=0)[0, 0, 0] == 120
    with pytest.raises(UserError, match="no face 7; the landmarks have 0, 1"):
        follow_face(table(rows), 5, ONE_SHOT, face=7)


def test_each_shot_has_its_own_face_and_failed_rows_are_missing():
    rows = [(frame, 0, face(100, 100), frame != 3) for frame in range(10)]
    rows += [(frame, 0, face(400, 100)) for frame in range(10, 20)]
    points = follow_face(table(rows), 22, np.array([0, 10]))
    assert np.isnan(points[3]).all()
    assert np.isnan(points[20:]).all()
    assert points[9, 0, 0] == 150
    assert points[10, 0, 0] == 450


def test_the_same_person_after_a_gap_is_followed_on():
    rows = [(frame, 0, face(100, 100)) for frame in range(10)] + [(frame, 3, face(300, 100)) for frame in range(90, 99)]
    points = follow_face(table(rows), 99, ONE_SHOT)
    assert points[95, 0, 0] == 350


def test_short_gaps_are_interpolated_and_long_ones_stay():
    points = np.stack([face(100 + i, 100) for i in range(60)])
    points[5:8] = np.nan
    points[20:45] = np.nan
    filled = fill_gaps(points, ONE_SHOT, 10)
    np.testing.assert_allclose(filled[5:8, 0, 0], [155, 156, 157])
    assert np.isnan(filled[20:45]).all()
    assert np.isnan(points[5:8]).all()


def test_gaps_are_not_bridged_over_a_cut_but_held_up_to_it():
    points = np.stack([face(100 if i < 10 else 400, 100) for i in range(40)])
    points[8:13] = np.nan
    points[30:] = np.nan
    filled = fill_gaps(points, np.array([0, 10]), 10)
    assert filled[8:10, 0, 0].tolist() == [150, 150]
    assert filled[10:13, 0, 0].tolist() == [450] * 3
    assert np.isnan(filled[30:]).all()


@pytest.mark.clips
@pytest.mark.parametrize("name", ["openface_640x480.csv", "openface_older_layout.csv"])
def test_real_openface_files(clips_dir, name):
    read = read_openface_csv(clips_dir / name)
    assert read.success.mean() > 0.9
    assert np.isfinite(read.points).all()
    assert read.points.max() > 100
