"""The published procedure to dub a video, to compare with: no caching, no overlap of stages.

Frames are written as JPEG files and read again one by one, the network encodes the references again for each frame, the
whole crop is pasted, and the video is encoded as MPEG-4 and then copied with the audio.
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
        folder: for the frames and the video without audio.
    """

    network: torch.nn.Module
    mouth_region_size: int
    device: torch.device
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def dub(self, source: Path, points: np.ndarray, windows: np.ndarray, audio: Path, result: Path) -> int:
        """Dub a video; returns the number of frames.

        Args:
            source: video.
            points: landmarks of its frames, [N, 68, 2] pixels.
            windows: speech of the frames to make, float32 [M, channels, T].
            audio: audio of the result.
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
            crop, box, image = self._crop(paths, points, frame)
            began = self._clock("read, crop", began)
            face = self._generate(crop, references, window)
            began = self._clock("generator", began)
            image[box.top : box.bottom, box.left : box.right] = cv2.resize(face, (box.width, box.height)) * 255
            began = self._clock("paste", began)
            writer.write(image)
            began = self._clock("encode", began)
        writer.release()
        self._add_audio(silent, audio, result)
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
            there, image = video.read()
            if not there:
                return paths
            paths.append(self.folder / f"{len(paths):06d}.jpg")
            cv2.imwrite(str(paths[-1]), image)

    @staticmethod
    def _forward_backward(count: int, frames: int) -> list[int]:
        there_and_back = [*range(frames), *range(frames - 2, 0, -1)]
        return [there_and_back[i % len(there_and_back)] for i in range(count)]

    def _crop(self, paths: list[Path], points: np.ndarray, frame: int) -> tuple[np.ndarray, CropBox, np.ndarray]:
        """The crop at the network's size, BGR in [0, 1], where it lies, and the whole image."""
        window = points[max(0, frame - _HALF_WINDOW) : frame + _HALF_WINDOW + 1]
        box = crop_box(points[frame], round_radius(float(frame_radius(window).max())))
        image = cv2.imread(str(paths[frame]))
        height, width = network_size(self.mouth_region_size)
        return cv2.resize(image[box.top : box.bottom, box.left : box.right], (width, height)) / 255, box, image

    @torch.no_grad()
    def _generate(self, crop: np.ndarray, references: np.ndarray, window: np.ndarray) -> np.ndarray:
        masked = crop.copy()
        masked[mouth_region(self.mouth_region_size)] = 0
        images = [
            torch.from_numpy(part).permute(2, 0, 1)[None].float().to(self.device) for part in (masked, references)
        ]
        face = self.network(*images, torch.from_numpy(window)[None].float().to(self.device))
        return face[0].permute(1, 2, 0).cpu().numpy()

    @staticmethod
    def _add_audio(silent: Path, audio: Path, result: Path) -> None:
        with av.open(str(silent)) as video, av.open(str(audio)) as speech, av.open(str(result), "w") as output:
            images, samples = video.streams.video[0], speech.streams.audio[0]
            stream = output.add_stream_from_template(images)
            track = output.add_stream("aac", samples.rate)
            for packet in video.demux(images):
                if packet.dts is not None:
                    packet.stream = stream
                    output.mux(packet)
            for frame in speech.decode(samples):
                output.mux(track.encode(frame))
            output.mux(track.encode(None))
