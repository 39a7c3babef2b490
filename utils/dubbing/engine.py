"""The dubbing engine: `Dubber.dub`, which the command line, the page and Python programs call."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from utils.device import default_batch_size
from utils.dubbing.generator import MouthGenerator
from utils.dubbing.mouth_reader import load_mouth_reader
from utils.dubbing.references import parse_reference_frames, random_references, spread_references
from utils.dubbing.run import DubRun, Speech
from utils.dubbing.settings import DubbingJob, DubbingOptions, DubbingReport
from utils.errors import UserError, blame, require_file, require_result
from utils.face.analysis import AnalyzedVideo, analyze_video
from utils.face.crop import cut_face
from utils.face.crop_geometry import network_size
from utils.face.landmarks import UnknownFaceError
from utils.face.openface_csv import LandmarkFileError
from utils.files import file_fingerprint, file_keys
from utils.media.images import crops_to_tensor
from utils.pipeline import StageTimer, keep_freed_memory
from utils.progress import Progress

if TYPE_CHECKING:
    from utils.dubbing.streaming import StreamedFrame

logger = logging.getLogger(__name__)


def _check_results(job: DubbingJob) -> None:
    """Check that the results can be written, and that none of them is also an input or the other result.

    Raises:
        UserError: naming the result.
    """
    used = [job.source, job.audio] if job.landmark_path is None else [job.source, job.audio, job.landmark_path]
    for result in (job.result, job.face_video):
        if result is not None:
            require_result(result)
            if any(file_keys(result) & file_keys(path) for path in used):
                raise UserError(f"{result} is to be read and to be written; give the result another name")
            used.append(result)


class Dubber:
    """Dubs videos with one generator that is loaded once.

    Args:
        generator: makes faces with a new mouth; used by this Dubber alone.
        read_speech: reads an audio file as the speech features that the generator was trained on.
        landmark_dir: where detected landmarks are kept for the next run on the same video; None keeps none.
        options: default options of `dub`.
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
            options: how to dub; None: the default options of this Dubber.
            progress: called from this thread as the work proceeds.

        Raises:
            UserError: unusable source, landmarks, audio or result. No partial result stays behind.
        """
        progress = progress or (lambda stage, done, total: None)
        _check_results(job)
        if job.result.exists():
            logger.info(f"{job.result} exists and will be replaced")
        options = options or self.options
        if options.batch_size is None:
            options = replace(
                options, batch_size=default_batch_size(self.generator.device, getattr(self.generator, "threads", 1))
            )
        if options.blend == "face":
            load_mouth_reader(self.generator.device)  # a missing file is to be noticed before the source's analysis
        job.result.parent.mkdir(parents=True, exist_ok=True)
        # Keep freed memory: the system clears every page that it hands out again, a quarter of the generator's time
        # (140,000 pages per frame). One heap: with one per thread, a five-minute dub at 1080p took 25 % more memory.
        keep_freed_memory(1 << 30, 1 << 30, one_heap=True)
        start = time.perf_counter()
        timer = StageTimer()
        speech = self.read_speech(job.audio)
        timer.add("speech features", time.perf_counter() - start)
        analyzed, references = self._prepare(job, options, progress, timer)
        run = DubRun(job, options, analyzed, speech, self.generator, timer)
        untouched = run.write(run.frames(), progress)
        total = time.perf_counter() - start
        return DubbingReport(job.result, run.count, run.rate, untouched, references, timer.seconds, total)

    def prepare(
        self,
        source: Path,
        landmark_path: Path | None = None,
        options: DubbingOptions | None = None,
        progress: Progress | None = None,
    ) -> tuple[AnalyzedVideo, list[int]]:
        """Analyze a source and choose its reference frames, as `dub` does first, to show them to a user.

        A `dub` of the same source with the same options does not repeat it.

        Raises:
            UserError: unusable source or landmarks.
        """
        job = DubbingJob(source, source, source, landmark_path)
        return self._prepare(job, options or self.options, progress or (lambda stage, done, total: None), StageTimer())

    def stream(
        self,
        audio_blocks: Iterable[np.ndarray],
        source: str | Path,
        speech_sample: str | Path | None = None,
        options: DubbingOptions | None = None,
    ) -> Iterator["StreamedFrame"]:
        """Dub live: see utils.dubbing.streaming.stream."""
        from utils.dubbing.streaming import stream

        return stream(self, audio_blocks, Path(source), speech_sample and Path(speech_sample), options or self.options)

    def _prepare(
        self, job: DubbingJob, options: DubbingOptions, progress: Progress, timer: StageTimer
    ) -> tuple[AnalyzedVideo, list[int]]:
        """Analyze the source and give its references to the generator, unless the last job did just that."""
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
            analyzed = self._analyze(job, options, progress, timer)
            begin = time.perf_counter()
            references = self._choose_references(analyzed, options)
            timer.add("references", time.perf_counter() - begin)
            self._last = (key, analyzed, references)
        return self._last[1:]

    def _analyze(
        self, job: DubbingJob, options: DubbingOptions, progress: Progress, timer: StageTimer
    ) -> AnalyzedVideo:
        hint = "without this option the landmarks are detected"
        with (
            blame(job.source_option),
            blame("--face", only=UnknownFaceError),
            blame("--source_openface_landmark_path", hint, only=LandmarkFileError),
        ):
            return analyze_video(
                job.source, job.landmark_path, self.landmark_dir, options.face, options.crop_radius, progress, timer
            )

    def _choose_references(self, analyzed: AnalyzedVideo, options: DubbingOptions) -> list[int]:
        """Choose the reference frames and give their crops to the generator."""
        info = analyzed.reader.info
        size = network_size(self.generator.mouth_region_size)
        crops: dict[int, np.ndarray] = {}

        def read(frames: Sequence[int]) -> None:
            for frame in analyzed.reader.play(sorted(set(frames) - crops.keys())):
                crop = cut_face(frame.yuv, analyzed.plan.box(frame.index), info.colour)
                crops[frame.index] = crop.resized(*size)

        def sharpness(frames: Sequence[int]) -> list[float]:
            read(frames)
            below_eyes = [cv2.cvtColor(crops[frame][size[0] // 3 :], cv2.COLOR_RGB2GRAY) for frame in frames]
            return [float(cv2.Laplacian(part, cv2.CV_32F).var()) for part in below_eyes]

        if options.reference_frames is not None:
            chosen = parse_reference_frames(options.reference_frames, analyzed.plan)
        elif options.reference_selection == "random":
            chosen = random_references(analyzed.plan, options.seed)
        else:
            chosen = spread_references(analyzed.plan, info.width, info.height, sharpness)
        read(chosen)
        stacked = np.stack([crops[frame] for frame in chosen])
        self.generator.set_references(crops_to_tensor(stacked, self.generator.device))
        return chosen
