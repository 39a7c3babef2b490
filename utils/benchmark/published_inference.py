"""A straight reading of the published way to dub a video, to measure against: nothing is kept, nothing overlaps.

Frames go to the disk as JPEG files, are read again one at a time, the network sees the references anew for each, the
crop is pasted as it is, the video is encoded as MPEG-4 and then written again with the sound.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

import av
import cv2
import numpy as np
import torch

from utils.face.crop_geometry import CropBox, crop_box, frame_radius, mouth_region, network_size, round_radius

_HALF_WINDOW = 2
"""Frames on each side of one that its crop radius is taken from."""


@dataclass
class PublishedDubbing:
    """Dubs with a DINet in eval mode; `seconds` are those of each stage so far.

    Args:
        network: takes masked source, references and speech.
        mouth_region_size: side of the mouth region in pixels.
        device: of the network.
        folder: for the frames and the video without sound.
    """

    network: torch.nn.Module
    mouth_region_size: int
    device: torch.device
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def dub(self, source: Path, points: np.ndarray, windows: np.ndarray, audio: Path, result: Path) -> int:
        """Dub a video; gives the number of frames.

        Args:
            source: video.
            points: landmarks of its frames, [N, 68, 2] pixels.
            windows: speech of the frames to make, float32 [M, channels, T].
            audio: becomes the sound of the result.
            result: mp4 to write.
        """
        began = time.perf_counter()
        paths = self._extract(source)
        order = self._forward_backward(len(windows), min(len(paths), len(points)))
        began = self._clock("extract frames", began)
        references = np.concatenate([self._crop(paths, points, frame)[0] for frame in order[:: len(order) // 5][:5]], 2)
        silent = self.folder / "silent.mp4"
        height, width = cv2.imread(str(paths[0])).shape[:2]
        writer = cv2.VideoWriter(str(silent), cv2.VideoWriter_fourcc(*"mp4v"), 25, (width, height))
        began = self._clock("references", began)
        for frame, window in zip(order, windows, strict=True):
            crop, box, picture = self._crop(paths, points, frame)
            began = self._clock("read, crop", began)
            face = self._generate(crop, references, window)
            began = self._clock("generator", began)
            picture[box.top : box.bottom, box.left : box.right] = cv2.resize(face, (box.width, box.height)) * 255
            began = self._clock("paste", began)
            writer.write(picture)
            began = self._clock("encode", began)
        writer.release()
        self._add_sound(silent, audio, result)
        self._clock("encode", began)
        return len(order)

    def _clock(self, stage: str, began: float) -> float:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0) + now - began
        return now

    def _extract(self, source: Path) -> list[Path]:
        video = cv2.VideoCapture(str(source))
        paths = []
        while True:
            there, picture = video.read()
            if not there:
                return paths
            paths.append(self.folder / f"{len(paths):06d}.jpg")
            cv2.imwrite(str(paths[-1]), picture)

    @staticmethod
    def _forward_backward(count: int, frames: int) -> list[int]:
        there_and_back = [*range(frames), *range(frames - 2, 0, -1)]
        return [there_and_back[i % len(there_and_back)] for i in range(count)]

    def _crop(self, paths: list[Path], points: np.ndarray, frame: int) -> tuple[np.ndarray, CropBox, np.ndarray]:
        """The crop at the network's size, BGR in [0, 1], where it lies, and the whole picture."""
        window = points[max(0, frame - _HALF_WINDOW) : frame + _HALF_WINDOW + 1]
        box = crop_box(points[frame], round_radius(float(frame_radius(window).max())))
        picture = cv2.imread(str(paths[frame]))
        height, width = network_size(self.mouth_region_size)
        return cv2.resize(picture[box.top : box.bottom, box.left : box.right], (width, height)) / 255, box, picture

    @torch.no_grad()
    def _generate(self, crop: np.ndarray, references: np.ndarray, window: np.ndarray) -> np.ndarray:
        masked = crop.copy()
        masked[mouth_region(self.mouth_region_size)] = 0
        pictures = [
            torch.from_numpy(part).permute(2, 0, 1)[None].float().to(self.device) for part in (masked, references)
        ]
        made = self.network(*pictures, torch.from_numpy(window)[None].float().to(self.device))
        return made[0].permute(1, 2, 0).cpu().numpy()

    @staticmethod
    def _add_sound(silent: Path, audio: Path, result: Path) -> None:
        with av.open(str(silent)) as video, av.open(str(audio)) as sound, av.open(str(result), "w") as output:
            pictures, samples = video.streams.video[0], sound.streams.audio[0]
            stream = output.add_stream_from_template(pictures)
            track = output.add_stream("aac", samples.rate)
            for packet in video.demux(pictures):
                if packet.dts is not None:
                    packet.stream = stream
                    output.mux(packet)
            for frame in sound.decode(samples):
                output.mux(track.encode(frame))
            output.mux(track.encode(None))
