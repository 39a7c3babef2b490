from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from helpers.sample_media import BT601
from python_speech_features import mfcc

from models.chung_syncnet import ChungSyncNet
from utils.evaluation.lse import LSEMetric, _face, face_boxes, lse_from_embeddings
from utils.evaluation.single_pass import play_once
from utils.media.audio import Waveform
from utils.media.video_reader import VideoReader
from utils.media.video_writer import EncoderSettings, VideoWriter


def test_lse_is_that_of_a_plain_loop():
    generator = torch.Generator().manual_seed(6)
    audio = torch.randn(40, 8, generator=generator)
    starts = torch.tensor([*range(4, 20), *range(25, 33)])
    video = audio[starts + 3] + 0.1 * torch.randn(len(starts), 8, generator=generator)
    error = lse_from_embeddings(video, starts, audio)
    means = []
    for shift in range(-15, 16):
        distances = []
        for code, place in zip(video, starts.tolist(), strict=True):
            other = audio[place + shift] if 0 <= place + shift < 40 else torch.zeros(8)
            distances.append(((code - other + 1e-6) ** 2).sum().sqrt().item())
        means.append(sum(distances) / len(distances))
    assert error.distance == pytest.approx(min(means), rel=1e-5)
    assert error.confidence == pytest.approx(sorted(means)[15] - min(means), rel=1e-5)
    assert error.offset == -3


class RecordingSyncNet(torch.nn.Module):
    """Notes what the network of Chung and Zisserman would be given."""

    def __init__(self):
        super().__init__()
        self.video_inputs, self.audio_inputs = [], []

    def encode_video(self, faces):
        self.video_inputs += list(faces)
        return faces.mean((2, 3, 4))

    def encode_audio(self, sound):
        self.audio_inputs += list(sound)
        return sound.mean((2, 3))[:, [0, 0, 0]]


def test_lse_shows_the_network_what_it_was_trained_on(tmp_path):
    """Ten frames, each of its own grey but for a red stripe across the face; 29 frames of sound (no float rounding)."""
    size, frames = 256, 29
    points = np.full((frames, 68, 2), 128.0)
    points[:, 0], points[:, 16], points[:, 8], points[:, 19] = (88, 128), (168, 128), (128, 178), (128, 100)
    with VideoWriter(tmp_path / "v.mp4", size, size, Fraction(25), BT601, encoder=EncoderSettings(1)) as writer:
        for number in range(frames):
            yuv = np.full((size * 3 // 2, size), 128, np.uint8)
            yuv[:size] = 40 + 5 * number
            yuv[size:][: size // 4] = 128
            yuv[size + size // 4 :] = 200  # V: reddish
            writer.write(yuv)
    reader = VideoReader(tmp_path / "v.mp4")
    network = RecordingSyncNet()
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 640 * frames).astype(np.float32)
    lse = LSEMetric(network, torch.device("cpu")).start(reader, points, Waveform(samples, 16000))
    assert not list(play_once(reader, np.zeros(0, int), [lse]))
    assert lse.result().confidence >= 0
    assert len(network.audio_inputs) == len(network.video_inputs) == frames - 5
    rows = mfcc((samples * 32767).round().astype(np.int16), 16000)
    for number in (0, 7, frames - 6):
        assert np.allclose(network.audio_inputs[number][0].T, rows[4 * number : 4 * number + 20], rtol=1e-4, atol=1e-3)
    faces = network.video_inputs[7]
    assert faces.shape == (3, 5, 224, 224)
    true = [next(reader.play([7 + i])) for i in range(5)]
    for i, frame in enumerate(true):
        red, green, blue = cv2.cvtColor(frame.yuv, cv2.COLOR_YUV2RGB_I420)[128, 128]
        assert red > blue + 20
        for channel, value in zip(faces[:, i], (blue, green, red), strict=True):
            assert channel[112, 112].item() == pytest.approx(value, abs=6)


def test_lse_cuts_the_face_as_published():
    """Side 2.8 times the box's half, 0.4 of it beyond the box to each side and above, 0.8 of it below."""
    x, y = np.meshgrid(np.arange(400), np.arange(400))
    reds = {}
    for name, ramp in (("x", x), ("y", y)):
        yuv = np.full((600, 400), 128, np.uint8)
        yuv[:400] = 16 + ramp * 219 // 400
        reds[name] = _face(yuv, np.array([200.0, 180.0, 80.0]), BT601)[..., 1].astype(float) * 400 / 255
    assert reds["x"][112, 0] == pytest.approx(200 - 112, abs=3)
    assert reds["x"][112, -1] == pytest.approx(200 + 112, abs=3)
    assert reds["y"][0, 112] == pytest.approx(180 - 80, abs=3)
    assert reds["y"][-1, 112] == pytest.approx(180 + 144, abs=3)


def test_the_network_of_lse_has_the_names_of_its_published_weights():
    shapes = {name: tuple(value.shape) for name, value in ChungSyncNet().state_dict().items()}
    for name, shape in {
        "netcnnaud.0.weight": (64, 1, 3, 3),
        "netcnnaud.14.weight": (256, 256, 3, 3),
        "netcnnaud.18.weight": (512, 256, 5, 4),
        "netcnnaud.19.running_mean": (512,),
        "netcnnlip.0.weight": (96, 3, 5, 7, 7),
        "netcnnlip.14.weight": (256, 256, 1, 3, 3),
        "netcnnlip.18.weight": (512, 256, 1, 6, 6),
        "netfcaud.1.weight": (512,),
        "netfclip.3.weight": (1024, 512),
    }.items():
        assert shapes[name] == shape, name


def test_a_face_box_reaches_above_the_brows_and_stands_still():
    points = np.zeros((30, 68, 2), np.float32)
    points[:, 0], points[:, 16], points[:, 8], points[:, 19] = (100, 150), (200, 150), (150, 230), (140, 100)
    points[:, 1:68, 0] = np.clip(points[:, 1:68, 0], 100, 200)
    points[:, :, 1] = np.clip(points[:, :, 1], 100, 230)
    points[10, :, 0] += 50  # one frame whose landmarks jumped
    points[20] = np.nan
    boxes = face_boxes(points)
    assert np.isnan(boxes[20]).all()
    assert np.allclose(np.delete(boxes, 20, 0), (150, (230 + 100 - 0.3 * 130) / 2, 130 * 1.3 / 2))
