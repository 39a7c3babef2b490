"""Scores videos against a true one, on the face crops of the true one."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from utils.errors import UserError
from utils.evaluation.comparison import (
    MOUTH_REGION_SIZE,
    REGIONS,
    TRUTH,
    Alignment,
    Comparison,
    Scores,
    align,
)
from utils.evaluation.csim import FaceIdentity
from utils.evaluation.image_scores import FaceView, Pair, RowImages
from utils.evaluation.lip_metrics import LagCurve, compare_openings, landmark_distance, lips_and_sound
from utils.evaluation.single_pass import FrameMetric, play_once
from utils.evaluation.videos import VideoStore
from utils.face.analysis import AnalyzedVideo, NoFaceError
from utils.face.crop import cut_face
from utils.face.crop_geometry import CropBox, network_size
from utils.face.crop_plan import CropPlan
from utils.face.landmarks import POINTS, lip_opening
from utils.media.audio import Waveform, check_not_silent, load_waveform
from utils.media.video_reader import VideoReader
from utils.media.yuv import luma_height, planes
from utils.pipeline import StageTimer, batched, in_background, keep_freed_memory
from utils.speech.extractor import FeatureExtractor
from utils.speech.features import AUDIO_FRAME_RATE, SpeechFeatures
from utils.speech.mel import mel_features

if TYPE_CHECKING:  # these load PyTorch, which an evaluation without networks does not need
    from utils.evaluation.lpips_fid import FrechetDistance, PerceptualDistance
    from utils.evaluation.lse import LSEMetric, LSEPass
    from utils.evaluation.sync_confidence import SyncConfidence, SyncPass

logger = logging.getLogger(__name__)

IDENTITY_SECONDS = 2.0
"""Time between two identity measurements: dlib's network is slow, and identity changes slowly."""
_BATCH = 8
_QUEUED = 2
_NAN = float("nan")


@dataclass
class MetricModels:
    """Optional metric networks; a metric without its network is left out."""

    sync: "SyncConfidence | None" = None
    sync_features: FeatureExtractor | None = None
    lse: "LSEMetric | None" = None
    lpips: "PerceptualDistance | None" = None
    make_fid: "Callable[[], FrechetDistance] | None" = None


@dataclass
class _Row:
    """State of one comparison during the evaluation."""

    comparison: Comparison
    video: AnalyzedVideo
    alignment: Alignment
    images: RowImages
    speech_lag: LagCurve | None = None
    sync: "SyncPass | None" = None
    lse: "LSEPass | None" = None

    @property
    def metrics(self) -> list[FrameMetric]:
        """Metrics that take frames of the scored video at 25 frames per second."""
        return [metric for metric in (self.sync, self.lse) if metric is not None]


class Evaluator:
    """Scores videos; each is read twice: once to be analysed, once for all of its metrics.

    Args:
        models: optional networks.
        landmark_dir: where detected landmarks are kept; None keeps none.
        timer: receives the busy seconds of each stage.
    """

    def __init__(self, models: MetricModels, landmark_dir: Path | None, timer: StageTimer | None = None):
        self.models = models
        self.timer = timer or StageTimer()
        self.videos = VideoStore(landmark_dir, self.timer)
        self._identity = FaceIdentity()
        self._identity_lock = threading.Lock()  # dlib's network is one object for the threads of all videos
        self._embeddings: dict[tuple[Path, int], np.ndarray | None] = {}
        self._fids: dict[tuple[str, str], dict[str, FrechetDistance]] = {}
        self._speech = lru_cache(maxsize=4)(_load_speech)  # the rows of one clip share it
        self._sync_features = lru_cache(maxsize=1)(self._extract_features)

    def score(self, comparison: Comparison, progress: Callable[[int, int], None] | None = None) -> Scores:
        """Score one video; see score_rows.

        Raises:
            UserError: videos that cannot be read, without a face, or that do not belong together.
        """
        (result,) = self.score_rows([comparison], progress)
        if isinstance(result, UserError):
            raise result
        return result

    def score_rows(
        self, comparisons: Sequence[Comparison], progress: Callable[[int, int], None] | None = None
    ) -> list[Scores | UserError]:
        """Score several videos against the same true one, which is read once for all.

        Memory grows with the videos' length by the landmarks and a few numbers per frame only.

        Args:
            comparisons: rows with the same `reference`.
            progress: called with frames done and their total.

        Returns:
            One result per comparison, in order; an error for a row that cannot be scored.
        """
        keep_freed_memory(8 << 20, 256 << 20)  # crops and their filtered copies
        results: list[Scores | UserError | None] = [None] * len(comparisons)
        rows: dict[int, _Row] = {}
        for number, comparison in enumerate(comparisons):
            try:
                rows[number] = self._start(comparison)
            except UserError as error:
                results[number] = error
        total = sum(len(row.alignment.reference) for row in rows.values())
        done = 0

        def advance(frames: int) -> None:
            nonlocal done
            done += frames
            if progress is not None:
                progress(done, total)

        for rate in sorted({row.alignment.rate for row in rows.values()}):
            group = [row for row in rows.values() if row.alignment.rate == rate]
            self._score_images(self.videos.get(comparisons[0].reference), group, rate, advance)
        for number, row in rows.items():
            results[number] = self._finish(row)
        return results

    def pooled(self) -> dict[tuple[str, str], dict[str, float]]:
        """Figures of all clips together, by (task, row): FID of each region, of the videos scored so far."""
        return {
            key: {f"fid_{region}": distance.value() for region, distance in fids.items()}
            for key, fids in self._fids.items()
        }

    def _start(self, comparison: Comparison) -> _Row:
        """Analyse the videos of a comparison, and prepare its metrics."""
        reference = self.videos.get(comparison.reference)
        same = comparison.generated == comparison.reference
        video = reference if same else self._scored_video(comparison)
        alignment = align(reference.reader, video.reader, comparison)
        usable = reference.plan.weight[alignment.reference] == 1
        images = RowImages(comparison.same_audio, usable, self.models.lpips, self._fids_of(comparison))
        row = _Row(comparison, video, alignment, images)
        if comparison.audio is not None:
            self._start_audio(row)
        return row

    def _scored_video(self, comparison: Comparison) -> AnalyzedVideo:
        """The scored video. Without a face it is a bad dub, not an error: its images are scored all the same."""
        try:
            return self.videos.get(comparison.generated)
        except NoFaceError as error:
            logger.warning(f"{error}: metrics that need its landmarks are left empty")
        reader = VideoReader(comparison.generated)
        count = len(reader.times)
        points = np.full((count, POINTS, 2), np.nan, np.float32)
        plan = CropPlan(points, np.zeros(count, int), np.zeros(count, np.float32))
        return AnalyzedVideo(reader, plan, np.zeros(1, int))

    def _start_audio(self, row: _Row) -> None:
        """Prepare the metrics of lips against audio, all at 25 frames per second."""
        comparison, video = row.comparison, row.video
        waveform, mel = self._speech(comparison.audio, comparison.audio_option)
        row.speech_lag = lips_and_sound(video.plan.points[video.reader.timeline(Fraction(AUDIO_FRAME_RATE))], mel)
        if self.models.sync is not None:
            features = self._sync_features(comparison.audio, comparison.audio_option)
            row.sync = self.models.sync.start(video.reader, video.plan, features)
        if self.models.lse is not None:
            row.lse = self.models.lse.start(video.reader, video.plan.points, waveform)

    def _extract_features(self, audio: Path, option: str) -> SpeechFeatures:
        return self.models.sync_features.extract(audio, option)[0]

    def _fids_of(self, comparison: Comparison) -> "dict[str, FrechetDistance] | None":
        if self.models.make_fid is None or comparison.row == TRUTH:
            return None
        key = comparison.task, comparison.row
        if key not in self._fids:
            self._fids[key] = {region: self.models.make_fid() for region in REGIONS}
        return self._fids[key]

    def _score_images(
        self, reference: AnalyzedVideo, rows: Sequence[_Row], rate: Fraction, advance: Callable[[int], None]
    ) -> None:
        """Score the frames of all rows of one frame rate, in one pass over each of their videos."""

        def measure(batch: list[list[Pair]]) -> list[tuple[list[Pair], list]]:
            """Split a batch by row and measure it; runs beside the decoding."""
            columns = [[pairs[number] for pairs in batch if number < len(pairs)] for number in range(len(rows))]
            return [(column, row.images.measure(column)) for row, column in zip(rows, columns, strict=True)]

        # The longest first: `pairs[number]` is there for as long as the row's frames last.
        rows = sorted(rows, key=lambda row: -len(row.alignment.reference))
        batches = in_background(batched(self._pairs(reference, rows, rate), _BATCH), _QUEUED)
        batches = in_background(self.timer.apply("metrics", measure, batches), _QUEUED)
        with contextlib.closing(batches):
            for batch in batches:
                for row, (pairs, measured) in zip(rows, batch, strict=True):
                    row.images.collect(pairs, measured)
                advance(sum(len(pairs) for pairs, _ in batch))

    def _pairs(self, reference: AnalyzedVideo, rows: Sequence[_Row], rate: Fraction) -> Iterator[list[Pair]]:
        """Yield, for each moment, the pair of every row that lasts so long.

        Args:
            reference: the true video.
            rows: with orders that begin alike, the longest first.
            rate: frames per second of their orders.
        """
        order = rows[0].alignment.reference
        usable = reference.plan.weight[order] == 1
        boxes = [reference.plan.box(frame) if use else None for frame, use in zip(order, usable, strict=True)]
        size = reference.reader.info.width, reference.reader.info.height
        # Frames of the true video also serve rows that are that video, with this or that audio.
        own = [metric for row in rows if row.video is reference for metric in row.metrics]
        with contextlib.ExitStack() as stack:

            def views(video: AnalyzedVideo, order: np.ndarray, metrics: list[FrameMetric]) -> Iterator[FaceView | None]:
                faces = in_background(self._views(video, order, boxes, size, rate, metrics), _BATCH)
                return stack.enter_context(contextlib.closing(faces))

            true = views(reference, order, own)
            others = [
                None if row.video is reference else views(row.video, row.alignment.generated, row.metrics)
                for row in rows
            ]
            for tick, face in enumerate(true):
                yield [
                    (face, face if other is None else next(other))
                    for row, other in zip(rows, others, strict=True)
                    if tick < len(row.alignment.reference)
                ]
            for other in others:  # metrics may need frames after the last that is compared
                if other is not None and next(other, None) is not None:
                    raise RuntimeError("a scored video has more frames than its alignment")

    def _views(
        self,
        video: AnalyzedVideo,
        order: np.ndarray,
        boxes: Iterable[CropBox | None],
        size: tuple[int, int],
        rate: Fraction,
        metrics: Sequence[FrameMetric],
    ) -> Iterator[FaceView | None]:
        """Yield the face in each frame of `order`, at the true video's boxes and resized to its (width, height)."""
        info = video.reader.info
        crop_size = network_size(MOUTH_REGION_SIZE)
        scale = np.array([size[0] / info.width, size[1] / info.height], np.float32)
        step = max(1, round(IDENTITY_SECONDS * rate))
        for (tick, frame), box in zip(play_once(video.reader, order, metrics), boxes, strict=False):
            if box is None:
                yield None
                continue
            yuv = frame.yuv if (info.width, info.height) == size else _resized(frame.yuv, *size)
            crop = cut_face(yuv, box, info.colour).resized(*crop_size)
            embedding = None
            if tick % step == 0:
                key = info.path, frame.index
                with self._identity_lock:
                    if key not in self._embeddings:  # the tasks of a clip share its true video
                        points = video.plan.points[frame.index] * scale
                        self._embeddings[key] = self._identity.embed(yuv, points, info.colour)
                    embedding = self._embeddings[key]
            yield FaceView(crop, embedding)

    def _finish(self, row: _Row) -> Scores:
        """The scores of a row whose frames have all been processed."""
        comparison, alignment = row.comparison, row.alignment
        true = self.videos.get(comparison.reference).plan.points[alignment.reference]
        other = row.video.plan.points[alignment.generated] / np.array(alignment.scale, np.float32)
        values, curves = row.images.values(), {}
        openings, rate = {comparison.row: lip_opening(other)}, alignment.rate
        if comparison.same_audio:
            opening = compare_openings(true, other)
            values["lmd_all"], values["lmd_mouth"] = landmark_distance(true, other)
            values["opening_correlation"], values["opening_lag"] = opening.unshifted, opening.lag
            openings = {TRUTH: lip_opening(true)} | openings
        elif comparison.driving_video is not None:
            driving = self._driving_lips(comparison.driving_video, row.video)
            opening = LagCurve.empty() if driving is None else compare_openings(driving[0], driving[1])
            values["opening_correlation"], values["opening_lag"] = opening.unshifted, opening.lag
            if driving is not None:
                openings = {"driving video": lip_opening(driving[0]), comparison.row: lip_opening(driving[1])}
                rate = driving[2]
        if row.speech_lag is not None:
            values["sound_correlation"], values["sound_lag"] = row.speech_lag.peak, row.speech_lag.lag
            curves["lips and speech level, correlation"] = row.speech_lag.correlation
        if row.sync is not None:
            curve = row.sync.curve()
            values["sync_confidence"], values["sync_offset"] = curve.confidence, curve.offset
            curves["SyncNet, score"] = curve.score
        if row.lse is not None:
            lse = row.lse.result()
            values["lse_d"], values["lse_c"], values["lse_offset"] = lse.distance, lse.confidence, lse.offset
        return Scores(comparison, len(alignment.reference), values, row.images.strip, openings, rate, curves)

    def _driving_lips(self, path: Path, dub: AnalyzedVideo) -> tuple[np.ndarray, np.ndarray, Fraction] | None:
        """Landmarks of the driving video and of the dub, moment by moment, and their rate; None without a face."""
        try:
            driving = self.videos.get(path)
        except NoFaceError as error:
            logger.warning(f"{error}: the dub's lips are not compared with it")
            return None
        rate = min(driving.reader.info.rate, dub.reader.info.rate)
        spoken, dubbed = (video.plan.points[video.reader.timeline(rate)] for video in (driving, dub))
        common = min(len(spoken), len(dubbed))
        return spoken[:common], dubbed[:common], rate


def _load_speech(path: Path, option: str) -> tuple[Waveform, np.ndarray]:
    """The audio of a file, mono at 16 kHz, and its log-mel bands."""
    waveform = load_waveform(path, option)
    check_not_silent(waveform, path, option)
    return waveform, mel_features(waveform)


def _resized(yuv: np.ndarray, width: int, height: int) -> np.ndarray:
    """A frame (I420) at another even size."""
    interpolation = cv2.INTER_AREA if height < luma_height(yuv) else cv2.INTER_CUBIC
    sizes = (width, height), (width // 2, height // 2), (width // 2, height // 2)
    luma, *chroma = (
        cv2.resize(plane, size, interpolation=interpolation) for plane, size in zip(planes(yuv), sizes, strict=True)
    )
    return np.concatenate([luma, np.stack(chroma).reshape(-1, width)])
