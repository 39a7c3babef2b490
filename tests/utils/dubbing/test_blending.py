import numpy as np
import pytest
import torch

from utils.dubbing.blending import match_colour, paste, paste_mask
from utils.face.crop_geometry import CropBox, crop_box, mouth_region, network_size


def test_feather_replaces_the_whole_masked_square_and_stays_inside_the_ring():
    radius = 60
    mask = paste_mask(radius, "feather")
    weights = np.zeros((radius * 13 // 4, radius * 5 // 2))
    weights[mask.rows, mask.columns] = mask.alpha[..., 0]
    quarter = radius // 4
    assert (weights[radius : 3 * radius, quarter : quarter + 2 * radius] == 1).all()
    assert weights[0].max() == weights[-1].max() == weights[:, 0].max() == weights[:, -1].max() == 0
    assert np.abs(np.diff(weights, axis=0)).max() < 0.2  # no edge


def test_hard_replaces_the_published_rows():
    mask = paste_mask(60, "hard")
    assert (mask.rows, mask.columns) == (slice(0, 180), slice(0, 150))
    assert (mask.alpha == 1).all()


@pytest.mark.parametrize("mouth", [64, 128, 256])
def test_a_tint_and_a_gradient_of_light_are_removed_in_the_square(mouth):
    height, width = network_size(mouth)
    generator = torch.Generator().manual_seed(0)
    real = 0.3 + 0.4 * torch.rand(1, 3, height, width, generator=generator)
    tint = torch.tensor([0.08, -0.05, 0.03]).view(1, 3, 1, 1) + torch.linspace(-0.04, 0.04, width)
    matched = match_colour(real + tint, real, mouth)
    rows, columns = mouth_region(mouth)
    before, after = (float((picture - real)[..., rows, columns].abs().mean()) for picture in (real + tint, matched))
    assert after < 0.25 * before


def test_equal_pictures_are_not_changed_and_the_mouth_itself_does_not_count():
    generator = torch.Generator().manual_seed(0)
    real = torch.rand(2, 3, 104, 80, generator=generator)
    assert torch.allclose(match_colour(real, real, 64), real, atol=1e-6)
    mouth_differs = real.clone()
    mouth_differs[:, :, 32:96, 8:72] = 0.5
    assert torch.allclose(match_colour(mouth_differs, real, 64)[:, :, 32:96, 8:72], torch.tensor(0.5), atol=1e-6)


def test_something_dark_in_the_ring_shifts_colour_by_no_more_than_the_limit():
    real = torch.full((1, 3, 104, 80), 0.9)
    generated = torch.full((1, 3, 104, 80), 0.1)
    assert float(match_colour(generated, real, 64).max()) < 0.1 + 0.16


@pytest.mark.parametrize("corner", [(100, 100), (-30, 40), (60, -20), (170, 190)])
def test_pixels_outside_the_mask_keep_their_value_also_at_the_edge_of_the_picture(corner):
    radius = 40
    points = np.zeros((68, 2))
    points[33, 0], points[29, 1] = corner[1] + radius, corner[0] + radius
    box = crop_box(points, radius)
    patch_box = CropBox(max(box.top, 0), min(box.bottom, 240), max(box.left, 0), min(box.right, 240))
    patch = np.full((patch_box.height, patch_box.width, 3), 10, np.uint8)
    changed = paste(
        patch, box, patch_box, np.full((box.height, box.width, 3), 200, np.uint8), paste_mask(radius, "feather"), 1.0
    )
    whole = np.full((240, 240, 3), 10, np.uint8)
    whole[patch_box.top : patch_box.bottom, patch_box.left : patch_box.right] = patch
    square = (slice(max(box.top + 40, 0), box.top + 120), slice(max(box.left + 10, 0), box.left + 90))
    assert (whole[square] == 200).all()
    rest = whole.copy()
    rest[max(changed.top, 0) : changed.bottom, max(changed.left, 0) : changed.right] = 10
    assert (rest == 10).all()


def test_weight_scales_the_paste():
    box = CropBox(0, 130, 0, 100)
    patch = np.full((130, 100, 3), 100, np.uint8)
    paste(patch, box, box, np.full((130, 100, 3), 200, np.uint8), paste_mask(40, "feather"), 0.5)
    assert (patch[60:100, 20:80] == 150).all()
