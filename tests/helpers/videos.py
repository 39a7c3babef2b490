"""Small synthetic videos and audio files of any kind, and ways to look into files."""

import json
import shutil
import subprocess
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from utils.media.video_reader import VideoReader
from utils.media.video_writer import EncoderSettings, VideoWriter
from utils.media.yuv import Colour

NTSC = Fraction(30000, 1001)
BT709 = Colour(1, 1, 1)
BT601 = Colour(6, 6, 6)
UNSPECIFIED = Colour(2, 2, 2)
PLAIN = {"crf": "20", "preset": "ultrafast"}

needs_ffprobe = pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed")

# Kr, Kb of the matrices, ITU-R BT.709, BT.601 and BT.2020
LUMA_WEIGHTS = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593), 2: (0.299, 0.114)}


def scene(index: int, width: int = 96, height: int = 64) -> np.ndarray:
    """I420 picture number `index`: slow waves, and a band whose brightness tells the number."""
    rows, columns = np.mgrid[0:height, 0:width]
    luma = 110 + 40 * np.sin(columns / 9 + index / 7) + 30 * np.cos(rows / 11 - index / 5)
    luma[: height // 4] = 30 + index * 37 % 200
    chroma = np.full((height // 2, width), 110 + index * 5 % 40)
    return np.vstack([luma, chroma]).astype(np.uint8)


def smooth_rgb(width: int = 96, height: int = 64) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width] / max(width, height)
    return np.stack([50 + 150 * columns, 200 - 120 * rows, 120 + 50 * np.sin(3 * columns + 2 * rows)], -1).astype(
        np.uint8
    )


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b) ** 2))))


def make_video(
    path: Path,
    pictures: list[av.VideoFrame | np.ndarray],
    rate: Fraction = Fraction(25),
    codec: str = "libx264",
    options: dict | None = None,
    ticks: list[int] | None = None,
    pix_fmt: str = "yuv420p",
    rotation: float | None = None,
    mirror: bool = False,
    **settings: object,
) -> Path:
    """Encode pictures, at `ticks` of a clock of `rate` (default 0, 1, 2, ...)."""
    frames = [av.VideoFrame.from_ndarray(p, "yuv420p") if isinstance(p, np.ndarray) else p for p in pictures]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate, options=options or (PLAIN if codec == "libx264" else {}))
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, pix_fmt
        stream.codec_context.time_base = 1 / Fraction(rate)
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=mirror)
        for tick, frame in zip(ticks or range(len(frames)), frames, strict=True):
            frame.pts, frame.time_base = tick, 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_sound(path: Path, channels: int = 1, rate: int = 16000, seconds: float = 2.0, sample_bytes: int = 2) -> Path:
    """A wav of silence with a click at 1 s."""
    samples = np.zeros((round(seconds * rate), channels))
    samples[rate : rate + 40] = 0.9
    data = (samples * (2 ** (8 * sample_bytes - 1) - 1)).astype("<i4").tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(sample_bytes)
        file.setframerate(rate)
        file.writeframes(np.frombuffer(data, np.uint8).reshape(-1, 4)[:, :sample_bytes].tobytes())
    return path


def convert_sound(source: Path, target: Path, codec: str) -> Path:
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        sound = reader.streams.audio[0]
        stream = writer.add_stream(codec, sound.rate, layout="mono" if sound.channels == 1 else "stereo")
        for frame in reader.decode(audio=0):
            writer.mux(stream.encode(frame))
        writer.mux(stream.encode(None))
    return target


def decoded(path: Path) -> list[bytes]:
    return [frame.yuv.tobytes() for frame in VideoReader(path).frames()]


def probe(path: Path) -> dict:
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-show_format", "-of", "json", str(path)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def write(path: Path, count: int = 50, rate: Fraction = Fraction(25), **options: object) -> Path:
    """A video of `count` scenes; `options` are those of VideoWriter and EncoderSettings."""
    coding = {name: options.pop(name) for name in ("crf", "preset", "codec", "gop", "threads") if name in options}
    encoder = EncoderSettings(**{"preset": "ultrafast"} | coding)
    with VideoWriter(path, 96, 64, rate, options.pop("colour", BT709), encoder=encoder, **options) as writer:
        for index in range(count):
            writer.write(scene(index))
    return path


def sound_of(path: Path) -> tuple[np.ndarray, int]:
    with av.open(str(path)) as container:
        pieces = [frame.to_ndarray() for frame in container.decode(audio=0)]
        return np.concatenate(pieces, axis=1), container.streams.audio[0].rate
