"""Small real media for tests: a public-domain face in motion, speech-like sound, published-layout weights."""

import wave
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch
from golden import formula

from utils.media.video_writer import EncoderSettings, VideoWriter
from utils.media.yuv import Colour, set_rgb_patch

FAST = EncoderSettings(crf=10, preset="ultrafast")
BT601 = Colour(matrix=5, primaries=5, transfer=6)


def write_face_video(
    path: Path, frames: int = 30, rate: int = 25, size: int = 512, blank: tuple = (), audio: Path | None = None
) -> Path:
    """NASA's portrait of Eileen Collins (public domain), gently moving; black in the frames of `blank`."""
    from skimage import data

    portrait = data.astronaut()
    with VideoWriter(path, size, size, Fraction(rate), BT601, encoder=FAST, audio_path=audio) as writer:
        for frame in range(frames):
            angle, shift = 2 * np.sin(frame / 9), 4 * np.sin(frame / 6)
            turn = cv2.getRotationMatrix2D((256, 128), angle, size / 512)
            turn[:, 2] += (size / 512 - 1) * np.array((256, 128)) + (shift, shift / 2)
            picture = cv2.warpAffine(portrait, turn, (size, size), borderMode=cv2.BORDER_REFLECT)
            yuv = np.empty((size * 3 // 2, size), np.uint8)
            set_rgb_patch(yuv, 0, 0, picture * (frame not in blank), BT601)
            writer.write(yuv)
    return path


def write_speech(path: Path, seconds: float = 1.0, rate: int = 16000, amplitude: float = 0.4) -> Path:
    """A voice-like buzz whose loudness comes and goes four times a second: 16-bit mono wav."""
    time = np.arange(round(seconds * rate)) / rate
    voice = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 20))
    samples = amplitude * voice / np.abs(voice).max(initial=1) * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * time))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype(np.int16).tobytes())
    return path


def formula_state(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The golden files' weights for a network."""
    return {key: torch.from_numpy(formula.weight(key, tuple(t.shape))) for key, t in network.state_dict().items()}
