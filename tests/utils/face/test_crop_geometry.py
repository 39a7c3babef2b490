from pathlib import Path

import numpy as np
import pytest
from helpers.faces import face

from utils.face.crop_geometry import check_window, crop_box, mouth_region, network_size

GOLDEN = Path(__file__).parents[2] / "golden" / "crop_radius.npz"


def test_sixty_windows_of_the_published_code():
    golden = np.load(GOLDEN)
    width, height = (int(side) for side in golden["video_size"])
    cases = zip(golden["landmarks"], golden["frames"], golden["inside"], golden["radius"], strict=True)
    for landmarks, frames, inside, radius in cases:
        window = check_window(landmarks[:frames].astype(np.float32), width, height, float(golden["scale"]))
        assert (window.radius is not None) == bool(inside)
        assert (window.problem is None) == bool(inside)
        if inside:
            assert window.radius == radius


@pytest.mark.parametrize(("mouth", "size"), [(64, (104, 80)), (128, (208, 160)), (256, (416, 320))])
def test_network_sizes(mouth, size):
    assert network_size(mouth) == size
    rows, columns = mouth_region(mouth)
    assert rows.stop - rows.start == columns.stop - columns.start == mouth
    assert rows.stop < size[0]
    assert columns.stop < size[1]


def test_crop_has_the_published_shape():
    box = crop_box(face(), 56)
    assert (box.height, box.width) == (3 * 56 + 56 // 4, 2 * 56 + 56 // 2)
    assert (box.top, box.left) == (200 - 56, 320 - 56 - 14)


@pytest.mark.parametrize(
    ("landmarks", "cause"),
    [
        ([face(), face() * np.nan], "no face"),
        ([face(size=30), face(size=60)], "size jumps"),
        ([face(y=20)], "top"),
        ([face(y=440)], "bottom"),
        ([face(x=10)], "left"),
        ([face(x=630)], "right"),
        ([face(size=-10)], "collapsed"),
    ],
)
def test_each_cause_of_an_unusable_window_is_named(landmarks, cause):
    window = check_window(np.stack(landmarks), 640, 480)
    assert window.radius is None
    assert cause in window.problem
