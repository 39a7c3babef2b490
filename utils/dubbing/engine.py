"""The dubbing engine: a video, other speech and a generator in, the dubbed video out.

The command line, the tests and any other front end call `Dubber.dub`.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch

from utils.device import default_batch_size
from utils.dubbing.blending import first_seen_row, match_colour, paste_face, paste_mask
from utils.dubbing.generator import MouthGenerator
from utils.dubbing.references import parse_reference_frames, random_references, spread_references
from utils.dubbing.settings import DubbingJob, DubbingOptions, DubbingReport
from utils.errors import UserError, blame, require_file
from utils.face.analysis import AnalyzedVideo, analyze_video
from utils.face.crop import FaceCrop, cut_face
from utils.face.crop_geometry import network_size
from utils.face.landmarks import UnknownFaceError
from utils.face.openface_csv import LandmarkFileError
from utils.files import file_fingerprint
from utils.media.images import crops_to_tensor, tensor_to_crops
from utils.media.video_reader import Frame
from utils.media.video_writer import EncoderSettings, VideoWriter
from utils.media.yuv import Colour, set_rgb_patch
from utils.pipeline import StageTimer, batched, in_background, limit_heap_fragmentation
from utils.progress import Progress
from utils.speech.features import SpeechFeatures

QUEUED_BATCHES = 2
"""Batches that each stage may be ahead of the next."""

AI_NOTE = "AI-generated: the mouth movements in this video were synthesised (DINet)"
"""Comment in the metadata of every result."""

_BT709 = Colour(matrix=1, primaries=1, transfer=1)


@dataclass(frozen=True)
class Speech:
    """Driving audio: its features, its exact length in seconds, and the file that becomes the sound of the result."""

    features: SpeechFeatures
    duration: float
    path: Path


@dataclass
class _Tick:
    """One frame of the result on its way through the stages. `crop` is None where the frame is left as it is."""

    time: float
    frame: Frame
    crop: FaceCrop | None = None
    network_crop: np.ndarray | None = None
    face: np.ndarray | None = None
    yuv: np.ndarray | None = None


def forward_backward(count: int, frames: int) -> Iterator[int]:
    """Yield `count` positions in a clip of `frames` frames played forward, backward, forward, and so on."""
    period = max(1, 2 * frames - 2)
    for tick in range(count):
        position = tick % period
        yield position if position < frames else period - position


class Dubber:
    """Dubs videos with one generator that is loaded once.

    Args:
        generator: makes faces with a new mouth; no one else may use it.
        read_speech: reads an audio file, as features that the generator was trained on.
        landmark_dir: where detected landmarks are kept, so that a second run on a video is quick; None keeps none.
        options: how to dub where `dub` is not told otherwise.
    """

    def __init__(
        self,
        generator: MouthGenerator,
        read_speech: Callable[[Path], Speech],
        landmark_dir: str | Path | None = None,
        options: DubbingOptions | None = None,
    ):
        self.generator = generator
        self.read_speech = read_speech
        self.landmark_dir = None if landmark_dir is None else Path(landmark_dir)
        self.options = options or DubbingOptions()
        self._last: tuple[tuple, AnalyzedVideo, list[int]] | None = None

    def dub(
        self, job: DubbingJob, options: DubbingOptions | None = None, progress: Progress | None = None
    ) -> DubbingReport:
        """Write the result: the source with its mouth moving to the audio, as long as the audio.

        Args:
            job: what to dub.
            options: how to dub; None: as the Dubber was told.
            progress: called from this thread as the work proceeds.

        Raises:
            UserError: unusable source, landmarks, audio or result. No partial result stays behind.
        """
        progress = progress or (lambda stage, done, total: None)
        for path in (job.source, job.audio):
            if job.result.exists() and path.exists() and job.result.samefile(path):
                raise UserError(f"{job.result} is to be read and to be written; give the result another name")
        options = options or self.options
        if options.batch_size is None:
            options = replace(options, batch_size=default_batch_size(self.generator.device))
        job.result.parent.mkdir(parents=True, exist_ok=True)
        limit_heap_fragmentation()
        start = time.perf_counter()
        clock = StageTimer()
        speech = self.read_speech(job.audio)
        clock.add("speech features", time.perf_counter() - start)
        prepared, references = self._prepare(job, options, progress, clock)
        rate = options.fps or prepared.reader.info.rate
        count = max(1, round(speech.duration * rate))
        whole = options.blend == "hard" or job.face_video is not None
        first_row = 0 if whole else first_seen_row(self.generator.mouth_region_size)
        ticks = self._dubbed(prepared, speech.features, rate, count, options, first_row, clock)
        untouched = self._write(ticks, prepared, speech, job, rate, count, options, progress, clock)
        total = time.perf_counter() - start
        return DubbingReport(job.result, count, rate, untouched, references, clock.seconds, total)

    def _prepare(
        self, job: DubbingJob, options: DubbingOptions, progress: Progress, clock: StageTimer
    ) -> tuple[AnalyzedVideo, list[int]]:
        """The source, its references handed to the generator; nothing to do where the last job had the same one."""
        choices = (options.face, options.crop_radius, options.reference_selection, options.reference_frames)
        source = require_file(job.source, job.source_option)
        landmarks = job.landmark_path and require_file(job.landmark_path, "--source_openface_landmark_path")
        key = (
            source,
            file_fingerprint(source),
            landmarks,
            landmarks and file_fingerprint(landmarks),
            choices,
            options.seed,
        )
        if self._last is None or self._last[0] != key:
            self._last = None
            prepared = self._analyze(job, options, progress, clock)
            begin = time.perf_counter()
            references = self._choose_references(prepared, options)
            clock.add("references", time.perf_counter() - begin)
            self._last = (key, prepared, references)
        return self._last[1:]

    def _analyze(
        self, job: DubbingJob, options: DubbingOptions, progress: Progress, clock: StageTimer
    ) -> AnalyzedVideo:
        hint = "without this option the landmarks are detected"
        with (
            blame(job.source_option),
            blame("--face", only=UnknownFaceError),
            blame("--source_openface_landmark_path", hint, only=LandmarkFileError),
        ):
            return analyze_video(
                job.source, job.landmark_path, self.landmark_dir, options.face, options.crop_radius, progress, clock
            )

    def _choose_references(self, prepared: AnalyzedVideo, options: DubbingOptions) -> list[int]:
        """Choose the reference frames and hand their crops to the generator."""
        info = prepared.reader.info
        size = network_size(self.generator.mouth_region_size)
        crops: dict[int, np.ndarray] = {}

        def read(frames: Sequence[int]) -> None:
            for frame in prepared.reader.play(sorted(set(frames) - crops.keys())):
                crop = cut_face(frame.yuv, prepared.plan.box(frame.index), info.colour)
                crops[frame.index] = crop.resized(*size)

        def sharpness(frames: Sequence[int]) -> list[float]:
            read(frames)
            lower_halves = [cv2.cvtColor(crops[frame][size[0] // 3 :], cv2.COLOR_RGB2GRAY) for frame in frames]
            return [float(cv2.Laplacian(half, cv2.CV_32F).var()) for half in lower_halves]

        if options.reference_frames is not None:
            chosen = parse_reference_frames(options.reference_frames, prepared.plan)
        elif options.reference_selection == "random":
            chosen = random_references(prepared.plan, options.seed)
        else:
            chosen = spread_references(prepared.plan, info.width, info.height, sharpness)
        read(chosen)
        stacked = np.stack([crops[frame] for frame in chosen])
        self.generator.set_references(crops_to_tensor(stacked, self.generator.device))
        return chosen

    def _dubbed(
        self,
        prepared: AnalyzedVideo,
        features: SpeechFeatures,
        rate: Fraction,
        count: int,
        options: DubbingOptions,
        first_row: int,
        clock: StageTimer,
    ) -> Iterator[list[_Tick]]:
        """Yield batches of `count` dubbed frames; every stage before the last runs in a thread of its own.

        The generated faces count from `first_row` on.
        """
        reader, plan = prepared.reader, prepared.plan
        colour = reader.info.colour
        size = network_size(self.generator.mouth_region_size)
        timeline = reader.timeline(rate)
        order = (int(timeline[position]) for position in forward_backward(count, len(timeline)))

        def cut(batch: list[_Tick]) -> list[_Tick]:
            for tick in batch:
                if plan.weight[tick.frame.index] > 0:
                    tick.crop = cut_face(tick.frame.yuv, plan.box(tick.frame.index), colour)
                    tick.network_crop = tick.crop.resized(*size)
            return batch

        def generate(batch: list[_Tick]) -> list[_Tick]:
            faces = [tick for tick in batch if tick.crop is not None]
            if faces:
                windows = features.window(np.array([tick.time for tick in faces]))
                crops = crops_to_tensor(np.stack([tick.network_crop for tick in faces]), self.generator.device)
                made = self.generator(crops, torch.from_numpy(windows).to(self.generator.device), first_row)
                if options.blend == "feather":
                    made = match_colour(made, crops, self.generator.mouth_region_size)
                for tick, face in zip(faces, tensor_to_crops(made), strict=True):
                    tick.face = face
            return batch

        def blend(batch: list[_Tick]) -> list[_Tick]:
            for tick in batch:
                tick.yuv = tick.frame.yuv
                if tick.crop is not None:
                    mask = paste_mask(int(plan.radius[tick.frame.index]), options.blend)
                    weight = float(plan.weight[tick.frame.index])
                    tick.yuv = paste_face(tick.frame.yuv, tick.crop, tick.face, mask, weight, colour)
            return batch

        frames = clock.timed("decode", reader.play(order))
        ticks = (_Tick(float(number / rate), frame) for number, frame in enumerate(frames))
        batches = in_background(batched(ticks, options.batch_size), QUEUED_BATCHES)
        batches = in_background(clock.apply("crop", cut, batches), QUEUED_BATCHES)
        batches = in_background(clock.apply("generator", generate, batches), QUEUED_BATCHES)
        return in_background(clock.apply("blend", blend, batches), QUEUED_BATCHES)

    def _write(
        self,
        batches: Iterator[list[_Tick]],
        prepared: AnalyzedVideo,
        speech: Speech,
        job: DubbingJob,
        rate: Fraction,
        count: int,
        options: DubbingOptions,
        progress: Progress,
        clock: StageTimer,
    ) -> int:
        """Encode the frames; returns how many were left as they were."""
        info = prepared.reader.info
        encoder = EncoderSettings(options.crf, options.preset, options.video_codec)
        given = {"encoder": encoder, "audio_path": speech.path, "duration": speech.duration, "comment": AI_NOTE}
        untouched = done = 0
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.closing(batches))
            video = stack.enter_context(
                VideoWriter(job.result, info.width, info.height, rate, info.colour, info.sample_aspect_ratio, **given)
            )
            faces = None
            if job.face_video is not None:
                height, width = network_size(self.generator.mouth_region_size)
                faces = stack.enter_context(VideoWriter(job.face_video, width, height, rate, _BT709, **given))
            for batch in batches:
                begin = time.perf_counter()
                for tick in batch:
                    video.write(tick.yuv)
                    if faces is not None:
                        faces.write(self._face_frame(tick))
                    untouched += tick.crop is None
                clock.add("encode", time.perf_counter() - begin)
                done += len(batch)
                progress("dub", done, count)
        return untouched

    def _face_frame(self, tick: _Tick) -> np.ndarray:
        """The generated face alone as a frame (I420); black where the frame was left as it is."""
        height, width = network_size(self.generator.mouth_region_size)
        face = tick.face if tick.face is not None else np.zeros((height, width, 3), np.uint8)
        yuv = np.empty((height * 3 // 2, width), np.uint8)
        set_rgb_patch(yuv, 0, 0, face, _BT709)
        return yuv
