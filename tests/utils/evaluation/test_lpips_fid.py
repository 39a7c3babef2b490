import cv2
import pytest
import torch
from skimage import data

from utils.evaluation.lpips_fid import ALEXNET, INCEPTION, PerceptualDistance


def face_image():
    return cv2.resize(data.astronaut()[20:228, 140:300], (320, 416))


@pytest.mark.slow
def test_lpips_where_its_weights_are(tmp_path, monkeypatch):
    from torchvision.models import alexnet

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert ALEXNET.name in ALEXNET.missing("LPIPS")
    ALEXNET.path.parent.mkdir(parents=True)
    torch.save(alexnet().state_dict(), ALEXNET.path)  # random: what matters is which file is used, and 0 for equals
    assert ALEXNET.missing("LPIPS") is None
    true, other = [face_image()] * 2, [cv2.GaussianBlur(face_image(), (0, 0), 3)] * 2
    distance = PerceptualDistance(torch.device("cpu"))
    distance.add(true, true)
    assert distance.value() == 0
    distance.add(true, other)
    assert distance.value() > 0
    assert INCEPTION.name in INCEPTION.missing("FID")
