"""The stages of one dub: decode, crop, generator, blend, encode."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from utils.dubbing.blending import first_visible_row, match_colour, paste_face, paste_mask
from utils.dubbing.face_blend import FaceBlender, GeneratedFace
from utils.dubbing.face_geometry import FaceGeometry
from utils.dubbing.generator import MouthGenerator
from utils.dubbing.lip_detail import BANK_SIZE
from utils.dubbing.mouth_reader import MouthReader, load_mouth_reader
from utils.dubbing.own_lips import OwnLips, is_still_mouth
from utils.dubbing.settings import DubbingJob, DubbingOptions
from utils.dubbing.silence import closed_lips, find_pauses
from utils.face.analysis import AnalyzedVideo
from utils.face.crop import FaceCrop, cut_face
from utils.face.crop_geometry import network_size
from utils.media.audio import load_waveform
from utils.media.images import crops_to_tensor, tensor_to_crops
from utils.media.video_reader import Frame
from utils.media.video_writer import EncoderSettings, VideoWriter
from utils.media.yuv import Colour, set_rgb_patch
from utils.pipeline import StageTimer, batched, in_background, return_freed_memory
from utils.progress import Progress
from utils.speech.features import SpeechFeatures

QUEUED_BATCHES = 2
"""Batches that each stage may be ahead of the next."""

FRAMES_PER_TRIM = 200
"""Frames after which freed memory is returned to the system: the heap grew by up to 0.3 MB per frame of 256 x 256."""

ERROR_SAMPLES = 16
"""Faces generated beforehand to measure the network's constant errors on this person."""

AI_NOTE = "AI-generated: the mouth movements in this video were synthesised (DINet)"
"""Comment in the metadata of every result."""

_BT709 = Colour(matrix=1, primaries=1, transfer=1)


@dataclass(frozen=True)
class Speech:
    """Driving audio: its features, its exact length in seconds, and the file that becomes the result's audio track."""

    features: SpeechFeatures
    duration: float
    path: Path


@dataclass
class OutputFrame:
    """One frame of the result; each stage fills in its fields.

    Attributes:
        time: seconds from the start of the speech.
        source: the decoded frame.
        crop: the face crop at the source's resolution; None where the frame is left unchanged.
        network_crop: the crop at the network's size, uint8 RGB [h, w, 3].
        face: the generated face, uint8 RGB [h, w, 3], colour-matched to the crop unless --blend hard.
        lips: opening and width of its lips by the mouth reader, [2]; with --blend face.
        yuv: the finished frame, uint8 [H * 3 // 2, W] (I420).
    """

    time: float
    source: Frame
    crop: FaceCrop | None = None
    network_crop: np.ndarray | None = None
    face: np.ndarray | None = None
    lips: np.ndarray | None = None
    yuv: np.ndarray | None = None

    @property
    def index(self) -> int:
        """Frame number in the source."""
        return self.source.index

    def generated(self) -> GeneratedFace:
        """The frame as the face blender takes it."""
        return GeneratedFace(self.index, self.source.yuv, self.crop.box, self.network_crop, self.face, self.lips)


def ping_pong(count: int, length: int) -> Iterator[int]:
    """Yield `count` frame positions of a clip of `length` frames played forward, backward, forward, and so on."""
    period = max(1, 2 * length - 2)
    for number in range(count):
        position = number % period
        yield position if position < length else period - position


class DubRun:
    """One dub: makes the frames of the result and writes them.

    Args:
        job: what to dub.
        options: how to dub, complete with `batch_size`.
        source: the analyzed source.
        speech: the driving audio.
        generator: has the references.
        timer: receives the busy seconds of each stage.
    """

    def __init__(
        self,
        job: DubbingJob,
        options: DubbingOptions,
        source: AnalyzedVideo,
        speech: Speech,
        generator: MouthGenerator,
        timer: StageTimer,
    ):
        self.rate = options.fps or source.reader.info.rate
        self.count = max(1, round(speech.duration * self.rate))
        self._job, self._options, self._source, self.speech = job, options, source, speech
        self._generator, self._timer = generator, timer
        needs_all_rows = options.blend == "hard" or job.face_video is not None
        self._first_row = 0 if needs_all_rows else first_visible_row(generator.mouth_region_size)
        self._face_blender: FaceBlender | OwnLips | None = None
        self._mouth_reader: MouthReader | None = None
        self._pauses = np.empty((0, 2))

    def frames(self) -> Iterator[list[OutputFrame]]:
        """Yield the frames of the result in batches; every stage before the last runs in a thread of its own."""
        self.prepare_blending()
        if self._options.blend == "face" and self._options.silence == "close":
            self._pauses = find_pauses(load_waveform(self.speech.path, self._job.audio_option))
        played = self._timer.timed("decode", self.play(self.count))
        frames = (OutputFrame(float(number / self.rate), frame) for number, frame in enumerate(played))
        return self.process(frames)

    def prepare_blending(self) -> None:
        """Measure what `--blend face` needs to know about the source; nothing to do for the other blendings."""
        if self._options.blend == "face":
            begin = time.perf_counter()
            self._mouth_reader = load_mouth_reader(self._generator.device)
            self._face_blender = self._make_face_blender()
            self._timer.add("prepare blending", time.perf_counter() - begin)

    def play(self, count: int) -> Iterator[Frame]:
        """The source's frames for `count` frames of the result."""
        reader = self._source.reader
        timeline = reader.timeline(self.rate)
        return reader.play(int(timeline[position]) for position in ping_pong(count, len(timeline)))

    def process(self, frames: Iterator[OutputFrame]) -> Iterator[list[OutputFrame]]:
        """Dub frames as they come, in batches; every stage before the last runs in a thread of its own."""
        timer = self._timer
        batches = in_background(batched(frames, self._options.batch_size), QUEUED_BATCHES)
        batches = in_background(timer.apply("crop", self._cut, batches), QUEUED_BATCHES)
        batches = in_background(timer.apply("generator", self._generate, batches), QUEUED_BATCHES)
        return in_background(timer.apply("blend", self._blend, batches), QUEUED_BATCHES)

    def write(self, batches: Iterator[list[OutputFrame]], progress: Progress) -> int:
        """Encode the frames; returns how many were left as they were."""
        info, job, options = self._source.reader.info, self._job, self._options
        encoder = EncoderSettings(options.crf, options.preset, options.video_codec)
        common = {"audio_path": self.speech.path, "duration": self.speech.duration, "comment": AI_NOTE}
        common["encoder"] = encoder
        untouched = done = 0
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.closing(batches))
            size = info.width, info.height
            writer = VideoWriter(job.result, *size, self.rate, info.colour, info.sample_aspect_ratio, **common)
            video = stack.enter_context(writer)
            faces = None
            if job.face_video is not None:
                height, width = network_size(self._generator.mouth_region_size)
                faces = stack.enter_context(VideoWriter(job.face_video, width, height, self.rate, _BT709, **common))
            for batch in batches:
                begin = time.perf_counter()
                for frame in batch:
                    video.write(frame.yuv)
                    if faces is not None:
                        faces.write(self._face_alone(frame))
                    untouched += frame.crop is None
                self._timer.add("encode", time.perf_counter() - begin)
                if done // FRAMES_PER_TRIM < (done + len(batch)) // FRAMES_PER_TRIM:
                    return_freed_memory()
                done += len(batch)
                progress("dub", done, self.count)
        return untouched

    def _cut(self, batch: list[OutputFrame]) -> list[OutputFrame]:
        plan = self._source.plan
        for frame in batch:
            if plan.weight[frame.index] > 0:
                frame.crop = cut_face(frame.source.yuv, plan.box(frame.index), self._source.reader.info.colour)
                frame.network_crop = frame.crop.resized(*network_size(self._generator.mouth_region_size))
        return batch

    def _generate(self, batch: list[OutputFrame]) -> list[OutputFrame]:
        with_face = [frame for frame in batch if frame.crop is not None]
        if with_face:
            windows = torch.from_numpy(self.speech.features.window(np.array([frame.time for frame in with_face])))
            crops = crops_to_tensor(np.stack([frame.network_crop for frame in with_face]), self._generator.device)
            generated = self._generator(crops, windows.to(self._generator.device), self._first_row)
            if self._options.blend != "hard":
                generated = match_colour(generated, crops, self._generator.mouth_region_size)
            for frame, face in zip(with_face, tensor_to_crops(generated), strict=True):
                frame.face = face
            if self._mouth_reader is not None:
                shapes = self._mouth_reader(generated, self._generator.mouth_region_size)
                for frame, lips in zip(with_face, shapes, strict=True):
                    frame.lips = lips
        return batch

    def _blend(self, batch: list[OutputFrame]) -> list[OutputFrame]:
        plan, colour = self._source.plan, self._source.reader.info.colour
        for frame in batch:
            frame.yuv = frame.source.yuv
            if frame.crop is None:
                continue
            weight = float(plan.weight[frame.index])
            if self._face_blender is None:
                mask = paste_mask(int(plan.radius[frame.index]), self._options.blend)
                frame.yuv = paste_face(frame.source.yuv, frame.crop, frame.face, mask, weight, colour)
            else:
                closed = closed_lips(np.array([frame.time]), self._pauses)
                frame.yuv = self._face_blender.blend(frame.generated(), weight, float(closed[0]))
        return batch

    def _make_face_blender(self) -> FaceBlender | OwnLips:
        """Make what blends the faces, from frames of the source that are spread over its lip openings."""
        reader, plan = self._source.reader, self._source.plan
        geometry = FaceGeometry(plan, self._source.shots)
        chosen = geometry.lip_samples(BANK_SIZE)
        bank = self._cut([OutputFrame(0.0, frame) for frame in reader.play(chosen)])
        moments = np.linspace(0, self.speech.duration, ERROR_SAMPLES)
        picks = np.linspace(0, len(bank) - 1, ERROR_SAMPLES).round().astype(int)
        samples = [replace(bank[pick], time=float(moment)) for pick, moment in zip(picks, moments, strict=True)]
        for batch in batched(samples, self._options.batch_size):
            self._generate(batch)
        faces = [[frame.generated() for frame in part] for part in (bank, samples)]
        if not is_still_mouth(geometry, faces[1]):
            blender = FaceBlender(geometry, self._generator.mouth_region_size, reader.info.colour, *faces)
            if not blender.lips_are_poor:
                return blender
        return OwnLips(geometry, *faces)

    def _face_alone(self, frame: OutputFrame) -> np.ndarray:
        """The generated face alone as a frame (I420); black where the frame was left as it is."""
        height, width = network_size(self._generator.mouth_region_size)
        face = frame.face if frame.face is not None else np.zeros((height, width, 3), np.uint8)
        yuv = np.empty((height * 3 // 2, width), np.uint8)
        set_rgb_patch(yuv, 0, 0, face, _BT709)
        return yuv
