"""Blending by landmarks, on a real face (NASA's portrait of Eileen Collins, public domain)."""

import cv2
import numpy as np
import pytest
from skimage import data

from utils.dubbing.face_blend import CHANGE_LIMIT, FaceBlender, GeneratedFace
from utils.dubbing.face_geometry import FaceGeometry
from utils.face.crop import cut_face
from utils.face.crop_geometry import network_size
from utils.face.crop_plan import plan_crops
from utils.media.yuv import Colour, luma_height, rgb_to_yuv_matrix, set_rgb_patch

BT601 = Colour(matrix=5, primaries=5, transfer=6)
ONE_SHOT = np.zeros(1, int)
LIPS = np.array([1.0, 15.0], np.float32)
"""Opening and width, as the mouth reader would predict them."""


def portrait() -> np.ndarray:
    """The portrait as I420, 512 x 512; the face is some 90 pixels wide."""
    yuv = np.empty((768, 512), np.uint8)
    set_rgb_patch(yuv, 0, 0, data.astronaut(), BT601)
    return yuv


def landmarks(frames: int = 1) -> np.ndarray:
    """Landmarks of the portrait, drawn by hand as ellipses; those of the lips and the jaw are what counts."""
    points = np.full((68, 2), (222.0, 110.0))
    angle = np.linspace(0, np.pi, 17)
    points[:17] = np.stack([222 - 45 * np.cos(angle), 110 + 55 * np.sin(angle)], -1)
    points[27:31] = [(222, 92), (222, 102), (222, 112), (222, 120)]
    points[31:36] = [(212, 126), (217, 127), (222, 128), (227, 127), (232, 126)]
    points[36:42], points[42:48] = (200, 92), (244, 92)
    points[36], points[45] = (194, 92), (250, 92)
    turn = np.linspace(np.pi, 3 * np.pi, 13)[:12]
    points[48:60] = np.stack([222 + 18 * np.cos(turn), 140 + 7 * np.sin(turn)], -1)
    turn = np.linspace(np.pi, 3 * np.pi, 9)[:8]
    points[60:68] = np.stack([222 + 14 * np.cos(turn), 140 + 2 * np.sin(turn)], -1)
    return np.repeat(points[None], frames, 0).astype(np.float32)


def shown(size: int, yuv: np.ndarray, points: np.ndarray) -> tuple[FaceGeometry, GeneratedFace]:
    """A frame whose generated face is what the network saw."""
    plan = plan_crops(points, ONE_SHOT, yuv.shape[1], luma_height(yuv), 25.0)
    box = plan.box(0)
    crop = cut_face(yuv, box, BT601).resized(*network_size(size))
    return FaceGeometry(plan, ONE_SHOT), GeneratedFace(0, yuv, box, crop, crop, LIPS)


def repaint(made: GeneratedFace, face: np.ndarray) -> GeneratedFace:
    return GeneratedFace(made.frame, made.yuv, made.box, made.crop, face, made.lips)


@pytest.mark.parametrize("size", [64, 256])
def test_a_generator_that_returns_the_source_changes_nothing(size):
    geometry, made = shown(size, portrait(), landmarks())
    blended = FaceBlender(geometry, size, BT601, [made], [made]).blend(made, 1.0)
    assert np.abs(blended.astype(int) - made.yuv).max() <= 1


def test_a_generator_that_returns_the_source_changes_nothing_after_many_frames_either():
    frames = 24
    points = landmarks(frames)
    plan = plan_crops(points, ONE_SHOT, 512, 512, 25.0)
    seen = []
    for frame in range(frames):
        yuv = portrait()
        mouth = np.s_[132 + frame % 7 : 150, 205:240]
        yuv[:512][mouth] = yuv[:512][mouth] * (0.4 + 0.02 * frame)  # a mouth that changes
        crop = cut_face(yuv, plan.box(frame), BT601).resized(*network_size(64))
        seen.append(GeneratedFace(frame, yuv, plan.box(frame), crop, crop, LIPS * frame))
    blender = FaceBlender(FaceGeometry(plan, ONE_SHOT), 64, BT601, seen[::2], seen[::3])
    for made in seen:
        assert np.abs(blender.blend(made, 1.0).astype(int) - made.yuv).max() <= 1


@pytest.mark.parametrize("size", [64, 256])
def test_outside_the_lower_face_every_sample_keeps_its_value(size):
    noise = np.random.default_rng(0).integers(0, 256, (768, 512), np.uint8)  # also colours that RGB cannot hold
    geometry, made = shown(size, noise, landmarks())
    wild = repaint(made, np.random.default_rng(1).integers(0, 256, made.crop.shape, np.uint8))
    blended = FaceBlender(geometry, size, BT601, [made], [wild]).blend(wild, 1.0)
    changed = blended[:512] != noise[:512]
    jaw = np.zeros((512, 512), np.uint8)
    cv2.fillPoly(jaw, [np.rint(landmarks()[0, [*range(2, 15), 35, 33, 31]]).astype(np.int32)], 1)
    grown = cv2.dilate(jaw, np.ones((3, 3)), iterations=round(0.2 * made.box.width / 2.5))
    assert not changed[grown == 0].any()
    assert changed[jaw == 1].mean() > 0.5
    assert np.array_equal(FaceBlender(geometry, size, BT601, [made], [wild]).blend(wild, 0.0), noise)


def test_the_skin_takes_the_generated_colour_and_keeps_its_detail():
    geometry, made = shown(64, portrait(), landmarks())
    darker = repaint(made, np.where(made.crop > 10, made.crop - 10, 0).astype(np.uint8))
    blended = FaceBlender(geometry, 64, BT601, [made], [made]).blend(darker, 1.0)
    chin = np.s_[150:156, 214:230]  # below the lips
    before, after = made.yuv[:512][chin].astype(float), blended[:512][chin].astype(float)
    assert after.mean() - before.mean() == pytest.approx(-10 * 219 / 255, abs=1.5)
    assert (after - after.mean()).std() == pytest.approx((before - before.mean()).std(), rel=0.1)


@pytest.mark.parametrize("turn", [-12, 0, 12])
def test_the_chin_of_a_turned_head_moves_and_what_lies_beside_it_does_not(turn):
    points = landmarks()
    points[0, :17, 0] += turn
    geometry, made = shown(64, portrait(), points)
    samples = []
    for level in (0, 255):  # the network is not sure of anything below the mouth
        face = made.crop.copy()
        face[56:] = level
        samples.append(repaint(made, face))
    blended = FaceBlender(geometry, 64, BT601, [made], samples).blend(samples[1], 1.0)
    changed = np.abs(blended[:512].astype(int) - made.yuv[:512])[158]
    middle = 222 + turn
    assert changed[middle - 18 : middle + 19].min() > 8
    assert max(changed[middle + 28 :].max(), changed[: middle - 28].max()) < 5


@pytest.mark.parametrize("size", [64, 256])
def test_a_smear_on_the_chin_is_faint_and_an_open_mouth_is_not(size):
    geometry, made = shown(size, portrait(), landmarks())
    face = made.crop.copy()
    face[len(face) // 2 :] = 0
    black = repaint(made, face)
    blended = FaceBlender(geometry, size, BT601, [made], [made]).blend(black, 1.0)
    changed = np.abs(blended[:512].astype(int) - made.yuv[:512])
    assert changed[138:143, 212:232].mean() > 60  # the lips
    assert 5 < changed[157:162, 215:229].mean() < CHANGE_LIMIT


def test_constant_errors_of_the_network_are_corrected():
    geometry, made = shown(64, portrait(), landmarks())
    red = repaint(made, np.clip(made.crop + np.array([20, 0, -20]), 0, 255).astype(np.uint8))
    blended = FaceBlender(geometry, 64, BT601, [made], [red]).blend(red, 1.0)
    assert np.abs(blended.astype(int) - made.yuv).mean() < 0.05


def test_changes_of_rgb_become_those_of_yuv():
    for matrix in (1, 5, 9):
        colour = Colour(matrix, 2, 2)
        low, high = np.full((2, 2, 3), 90, np.uint8), np.full((2, 2, 3), (120, 80, 150), np.uint8)
        yuv = np.empty((2, 3, 2), np.uint8)
        for picture, rgb in zip(yuv, (low, high), strict=True):
            set_rgb_patch(picture, 0, 0, rgb, colour)
        expected = rgb_to_yuv_matrix(colour) @ (high[0, 0].astype(float) - low[0, 0])
        found = yuv[1].astype(int) - yuv[0]
        assert (found[0, 0], found[2, 0], found[2, 1]) == pytest.approx(tuple(expected), abs=1.01)
